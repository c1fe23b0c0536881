#pragma once

#include <string>
#include <vector>

/// CUDA C++ that is compiled when it is first needed. Internal.
namespace convae {

/// A program for the current GPU. NVRTC, which every CUDA build of LibTorch brings, compiles it and
/// the driver runs it, so neither CUDA's toolkit nor its headers are needed to build convae.
class GpuProgram {
public:
  /// A kernel's argument, of exactly the type that the kernel names.
  union Argument {
    Argument(int value) : of_int(value) {}              // NOLINT: converts
    Argument(long long value) : of_long(value) {}       // NOLINT
    Argument(double value) : of_double(value) {}        // NOLINT
    Argument(const void* value) : of_pointer(value) {}  // NOLINT
    int of_int;
    long long of_long;
    double of_double;
    const void* of_pointer;
  };

  /// False without a GPU's driver or without NVRTC; looked for once.
  static bool possible();

  /// `definitions`: such as "-DWIDTH=4". Throws std::runtime_error with the compiler's words.
  GpuProgram(const std::string& source, std::vector<std::string> definitions);

  struct Grid {
    unsigned blocks_x, blocks_y, threads_x, threads_y;
  };
  /// Queues a kernel behind all that LibTorch has queued on its default stream.
  void launch(const char* kernel, const Grid& grid, std::vector<Argument> arguments) const;

private:
  void* module_ = nullptr;  // lives as long as the process
};

}  // namespace convae
