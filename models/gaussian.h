#pragma once

#include "convae/core/tensor.h"

namespace convae {

/// (1, 1, 1, n) float: a Gaussian of that σ in pixels, cut at three of them, which adds up to 1.
torch::Tensor gaussian_kernel(double sigma);

/// (N, C, H, W) → the same, every channel by itself blurred with such a kernel along both axes;
/// beyond an edge lies what is at it.
torch::Tensor blurred(const torch::Tensor& images, const torch::Tensor& kernel);

}  // namespace convae
