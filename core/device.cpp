#include "convae/core/device.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <torch/cuda.h>

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

namespace convae {
namespace {

/// Keeps what LibTorch says while it looks for GPUs, such as that there is no driver.
class WarningKeeper : public c10::WarningHandler {
public:
  void process(const c10::Warning& warning) override { text = first_line(warning.msg().c_str()); }
  std::string text;
};

/// Its device file, or that of Windows's in a Linux subsystem.
bool has_driver() {
  std::error_code error;
  return std::filesystem::exists("/dev/nvidiactl", error) ||
         std::filesystem::exists("/dev/dxg", error);
}

struct Gpus {
  c10::DeviceIndex count = 0;
  std::string why_none;
};

Gpus find_gpus() {
  WarningKeeper keeper;
  const c10::WarningUtils::WarningHandlerGuard guard(&keeper);
  Gpus gpus;
  if (torch::cuda::is_available()) gpus.count = torch::cuda::device_count();
  if (!at::Context::hasCUDART()) {
    gpus.why_none = "this LibTorch is a build without CUDA";
  } else if (!keeper.text.empty()) {
    gpus.why_none = keeper.text;
  } else if (!has_driver()) {
    gpus.why_none = "there is no NVIDIA driver";
  } else {
    gpus.why_none = "LibTorch finds none";
  }
  return gpus;
}

}  // namespace

torch::Device choose_device(const std::string& name) {
  if (name == "cpu") return c10::kCPU;
  const bool numbered = name.starts_with("cuda:") && name.size() > 5 && name.size() < 9 &&
                        name.find_first_not_of("0123456789", 5) == std::string::npos;
  require_option(name == "auto" || name == "cuda" || numbered,
                 "--device " + in_quotes(name) + ": expected auto, cpu, cuda or cuda:N");
  const Gpus gpus = find_gpus();
  if (gpus.count == 0) {
    if (name == "auto") return c10::kCPU;
    throw std::runtime_error(fmt::format(
        "--device '{}': no GPU is usable: {}; use --device cpu or auto", name, gpus.why_none));
  }
  const int index = numbered ? std::stoi(name.substr(5)) : 0;
  if (index >= gpus.count) {
    throw std::runtime_error(fmt::format("--device '{}': there are {} GPUs, cuda:0 to cuda:{}",
                                         name, gpus.count, gpus.count - 1));
  }
  configure_gpu({});
  // Else events make a context on the first GPU too.
  at::accelerator::setDeviceIndex(static_cast<c10::DeviceIndex>(index));
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

void configure_gpu(const GpuSettings& settings) {
  at::Context& context = at::globalContext();
  const auto precision = settings.tf32 ? at::Float32Precision::TF32 : at::Float32Precision::IEEE;
  for (const auto product : {at::Float32Op::CONV, at::Float32Op::RNN, at::Float32Op::MATMUL}) {
    context.setFloat32Precision(at::Float32Backend::CUDA, product, precision);
  }
  // cuBLAS reads it when it is first used, whoever uses it, and repeats itself only with it.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  context.setDeterministicAlgorithms(settings.deterministic, /*warn_only=*/false);
  context.setDeterministicFillUninitializedMemory(false);  // all of it is written before it is read
  context.setDeterministicCuDNN(settings.deterministic);
  context.setBenchmarkCuDNN(settings.measure && !settings.deterministic);
}

std::int64_t free_gpu_memory(torch::Device device) {
  return static_cast<std::int64_t>(at::accelerator::getMemoryInfo(device.index()).first);
}

std::int64_t gpu_memory(torch::Device device) {
  return static_cast<std::int64_t>(at::accelerator::getMemoryInfo(device.index()).second);
}

}  // namespace convae
