#pragma once

#include "convae/core/tensor.h"
#include "convae/models/geometry.h"

/// A transposed convolution to few channels as a convolution: for each input pixel it computes all
/// stride.h · stride.w output pixels that begin there, as channels, which are then put side by side
/// (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?",
/// https://arxiv.org/abs/1609.07009). LibTorch's own computes 3 channels at a sixth of its usual
/// speed; this takes half to two thirds of the time.
namespace convae {

/// True where the function below applies and is fast: float or bfloat16 on a CPU, a stride, at most
/// 4 channels, and few zero taps in the convolution's kernel.
bool suits_subpixels(const torch::Tensor& x, std::int64_t channels, const LevelSpec& level);

/// x: (N, C, h, w) channels-last; weight: (C, channels, kernel), float; bias: (channels) or
/// undefined. Autocast is heeded.
/// Returns (N, channels, h', w') channels-last, where h' is (h - 1)·stride - 2·padding +
/// dilation·(kernel - 1) + 1 + output_padding. Differentiable once.
torch::Tensor subpixel_conv_transpose(const torch::Tensor& x, const torch::Tensor& weight,
                                      const torch::Tensor& bias, const LevelSpec& level,
                                      Size output_padding);

}  // namespace convae
