#pragma once

#include "convae/models/kernels/fused.h"

/// The functions of fused.h on a GPU. Internal.
namespace convae {

/// False where code cannot be compiled for the GPU at hand, or where the caller works on another
/// stream than the default one; LibTorch's own operations run then.
bool gpu_can_fuse(c10::Device device);

Maps gpu_training_tail(const Maps& convolved, const BlockTail& tail, double epsilon,
                       BatchStatistics* statistics);

void gpu_inference_tail_(torch::Tensor& convolved, const BlockTail& tail,
                         const torch::Tensor& scale, const torch::Tensor& shift);

}  // namespace convae
