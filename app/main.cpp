// Prepares the process for LibTorch and loads the program. Not linked to it: libgomp reads its
// settings while it is being loaded, before any main() runs.
#include "app/program.h"

#include <dlfcn.h>
#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <limits>

namespace {

void set_default(const char* name, const char* value) { setenv(name, value, /*overwrite=*/0); }

/// A thread that waits for the others spins, by default for milliseconds; where another process
/// wants the core, all wait for the one that lost it. At 10,000 rounds, a step beside a busy
/// process takes 239 ms instead of 845, and one alone not more than before (docs/performance.md).
void wait_briefly() {
  if (getenv("OMP_WAIT_POLICY") == nullptr) set_default("GOMP_SPINCOUNT", "10000");
}

/// Training allocates and frees the same large tensors every step. By default glibc gives each back
/// to the system and gets it anew, and the page faults cost a fifth of the time; so it keeps them.
/// Large pages (THP_MEM_ALLOC_ENABLE) would make a step 4 % faster, but take 1.4 times the memory.
void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
}

/// oneDNN compiles its kernels anew for each image size and keeps 1024 of them. A folder of many
/// sizes needs more: with 176 sizes, training was 1.25 times as fast once they all stayed.
void keep_compiled_kernels() { set_default("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192"); }

}  // namespace

int main(int argc, char** argv) {
  wait_briefly();
  keep_freed_memory();
  keep_compiled_kernels();
  void* library = dlopen(CONVAE_PROGRAM_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    std::fprintf(stderr, "convae: %s\n", dlerror());
    return 1;
  }
  using Program = decltype(&convae_program);
  const int code = reinterpret_cast<Program>(dlsym(library, "convae_program"))(argc, argv);
  // Everything is written by now, and taking LibTorch apart piece by piece takes 0.1 s.
  std::fflush(nullptr);
  std::_Exit(code);
}
