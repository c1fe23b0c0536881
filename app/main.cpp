// Prepares the process for LibTorch, then runs the program.
#include "convae/app/program.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

/// A file opened later must not become the standard output or error where that was closed. Results
/// that cannot be written are still an error, so /dev/null is opened to read.
void open_standard_files() {
  for (const int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    const bool is_open = ::fcntl(file, F_GETFD) != -1;
    if (!is_open) ::open("/dev/null", file == STDERR_FILENO ? O_WRONLY : O_RDONLY);
  }
}

/// SIGUSR1, which asks for a save, must not end a program that has nothing to save yet.
///
/// A waiting OpenMP thread spins, by default for milliseconds; where another process wants the
/// core, all wait for the thread that lost it. At 10,000 rounds, a step beside a busy process takes
/// 239 ms instead of 845, and one alone no longer than before (docs/performance.md). libgomp reads
/// the setting while it is loaded, so the program starts itself once more with it.
void begin(int /*argc*/, char** argv, char** environment) {
  open_standard_files();
  std::signal(SIGUSR1, SIG_IGN);
  std::vector<char*> settings;
  for (char** entry = environment; *entry != nullptr; ++entry) {
    const std::string_view setting(*entry);
    if (setting.starts_with("OMP_WAIT_POLICY=") || setting.starts_with("GOMP_SPINCOUNT=")) return;
    settings.push_back(*entry);
  }
  char ours[] = "GOMP_SPINCOUNT=10000";
  settings.push_back(ours);
  settings.push_back(nullptr);
  execve("/proc/self/exe", argv, settings.data());
  // Where that fails (no /proc), the program is only slower beside busy ones.
}

/// Before the constructors of any library: loading LibTorch takes 0.17 s, and this only 0.01.
__attribute__((section(".preinit_array"), used)) constexpr auto* kFirst = &begin;

/// oneDNN compiles its kernels anew for each image size and keeps 1024 of them. A folder of many
/// sizes needs more: with 176 sizes, training was 1.25 times as fast once they all stayed.
void keep_compiled_kernels() { setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192", /*overwrite=*/0); }

/// C++ has no common ABI across LibTorch's versions: with another one than it was built for, the
/// program would end in the middle, at the first function that is not there.
bool fits_libtorch() {
  const auto number = [](std::uint64_t abi, int byte) {
    return static_cast<int>(abi >> byte & 0xff);
  };
  const std::uint64_t built = TORCH_ABI_VERSION, loaded = aoti_torch_abi_version();
  if (built >> 48 == loaded >> 48) return true;  // major and minor version, a byte each
  std::fprintf(
      stderr,
      "convae: built for LibTorch %d.%d, but %d.%d was loaded; name the lib folder of the "
      "right one in LD_LIBRARY_PATH, or build convae for this one (LIBTORCH=… scripts/setup)\n",
      number(built, 56), number(built, 48), number(loaded, 56), number(loaded, 48));
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (!fits_libtorch()) return EXIT_FAILURE;
  ::prctl(PR_SET_NAME, "convae");  // after begin() it is called exe, and pgrep would not find it
  keep_compiled_kernels();
  const int code = convae::app::run_program(argc, argv);
  // Everything is written by now, and taking LibTorch apart piece by piece takes 0.1 s.
  std::fflush(nullptr);
  std::_Exit(code);
}
