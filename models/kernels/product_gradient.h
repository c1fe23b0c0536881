#pragma once

#include "convae/core/tensor.h"
#include "convae/models/geometry.h"

/// LibTorch's convolutions with another gradient of their weights: in bfloat16, oneDNN's runs at
/// half the speed of its other convolutions, and its threads wait for each other in the middle.
/// Here threads gather what the kernel sees of an image and multiply matrices, each on its own
/// ("im2col"). In float that was measured, too: no gain.
namespace convae {

/// True where the function below is faster: computed in bfloat16 on a CPU that multiplies it well,
/// enough channels on the larger map's side, gradients wanted.
bool suits_products(const torch::Tensor& x, const torch::Tensor& weight);

/// A convolution, or a transposed one. x: (N, C, h, w) channels-last; weight and bias (or none) as
/// LibTorch has them, float. Autocast is heeded. Differentiable once; the weight's gradient is
/// float, channels-last, and the same for any number of threads.
torch::Tensor convolution_with_products(const torch::Tensor& x, const torch::Tensor& weight,
                                        const torch::Tensor& bias, const LevelSpec& level,
                                        bool transposed, Size output_padding);

}  // namespace convae
