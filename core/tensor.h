#pragma once

#include <ATen/core/Tensor.h>

/// torch::Tensor and torch::Device for headers that need no more of LibTorch: a header that
/// includes this is read in 2 seconds, one that includes <torch/types.h> in 7. Sources that make
/// tensors include <torch/types.h>.
namespace torch {
using at::Tensor;
using c10::Device;
}  // namespace torch
