#pragma once

#include "convae/core/tensor.h"

#include <cstdint>
#include <string>

namespace convae {

/// "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N" → device. Float32 products on a
/// GPU are exact from then on (no TF32). Throws OptionError for other words, and std::runtime_error
/// that says why where CUDA is not usable: never a silent fall-back.
torch::Device choose_device(const std::string& name);

/// How a GPU computes, for the whole process; a CPU has no choice.
struct GpuSettings {
  bool tf32 = false;           ///< round the factors of float32 products to 10 bits: faster
  bool deterministic = false;  ///< only algorithms that repeat themselves
  bool measure = false;        ///< time cuDNN's algorithms at each new shape: for few shapes
};
void configure_gpu(const GpuSettings& settings);

/// Free memory of a GPU in bytes, and all of it.
std::int64_t free_gpu_memory(torch::Device device);
std::int64_t gpu_memory(torch::Device device);

}  // namespace convae
