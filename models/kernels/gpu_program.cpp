#include "convae/models/kernels/gpu_program.h"

#include <dlfcn.h>

#include <stdexcept>
#include <type_traits>

namespace convae {
namespace {

/// The few functions of NVRTC and of the driver that are needed. Their types stand here, since
/// nvrtc.h and cuda.h come with CUDA's toolkit only; all return 0 for success.
struct CudaFunctions {
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile)(void*, int, const char* const*);
  int (*log_size)(void*, std::size_t*);
  int (*log)(void*, char*);
  int (*binary_size)(void*, std::size_t*);
  int (*binary)(void*, char*);
  int (*destroy)(void**);
  int (*current_device)(int*);
  int (*attribute)(int*, int, int);
  int (*load_module)(void**, const void*);
  int (*find_kernel)(void**, void*, const char*);
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
                void**, void**);
  bool complete = true;

  CudaFunctions() {
    // LibTorch's own door to NVRTC; it knows where both libraries are.
    void* library = dlopen("libcaffe2_nvrtc.so", RTLD_LAZY | RTLD_LOCAL);
    const auto find = [&](auto& function, const char* name) {
      void* found = library != nullptr ? dlsym(library, name) : nullptr;
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(found);
      complete = complete && found != nullptr;
    };
    find(create, "nvrtcCreateProgram");
    find(compile, "nvrtcCompileProgram");
    find(log_size, "nvrtcGetProgramLogSize");
    find(log, "nvrtcGetProgramLog");
    find(binary_size, "nvrtcGetCUBINSize");
    find(binary, "nvrtcGetCUBIN");
    find(destroy, "nvrtcDestroyProgram");
    find(current_device, "cuCtxGetDevice");
    find(attribute, "cuDeviceGetAttribute");
    find(load_module, "cuModuleLoadData");
    find(find_kernel, "cuModuleGetFunction");
    find(launch, "cuLaunchKernel");
  }
};

const CudaFunctions& cuda() {
  static const CudaFunctions functions;
  return functions;
}

void check(int error, const char* what) {
  if (error == 0) return;
  throw std::runtime_error(std::string("the GPU's driver could not ") + what + ": error " +
                           std::to_string(error));
}

/// Such as "sm_90".
std::string architecture_of_current_gpu() {
  constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
  int device = 0, major = 0, minor = 0;
  check(cuda().current_device(&device), "name the current GPU");
  check(cuda().attribute(&major, kMajor, device), "name its architecture");
  check(cuda().attribute(&minor, kMinor, device), "name its architecture");
  return "sm_" + std::to_string(major) + std::to_string(minor);
}

}  // namespace

bool GpuProgram::possible() { return cuda().complete; }

GpuProgram::GpuProgram(const std::string& source, std::vector<std::string> definitions) {
  definitions.push_back("--gpu-architecture=" + architecture_of_current_gpu());
  std::vector<const char*> words;
  for (const std::string& word : definitions) words.push_back(word.c_str());
  void* program = nullptr;
  cuda().create(&program, source.c_str(), "convae.cu", 0, nullptr, nullptr);
  const int error = cuda().compile(program, static_cast<int>(words.size()), words.data());
  std::size_t size = 0;
  (error == 0 ? cuda().binary_size : cuda().log_size)(program, &size);
  std::string result(size, '\0');
  (error == 0 ? cuda().binary : cuda().log)(program, result.data());
  cuda().destroy(&program);
  if (error != 0) throw std::runtime_error("NVRTC cannot compile convae's GPU code: " + result);
  check(cuda().load_module(&module_, result.data()), "load convae's GPU code");
}

void GpuProgram::launch(const char* kernel, const Grid& grid,
                        std::vector<Argument> arguments) const {
  void* function = nullptr;  // the driver looks it up in less than the start takes
  check(cuda().find_kernel(&function, module_, kernel), "find convae's GPU code");
  std::vector<void*> values;
  for (Argument& argument : arguments) values.push_back(&argument);
  check(cuda().launch(function, grid.blocks_x, grid.blocks_y, 1, grid.threads_x, grid.threads_y, 1,
                      /*shared memory=*/0, /*stream=*/nullptr, values.data(), nullptr),
        "start convae's GPU code");
}

}  // namespace convae
