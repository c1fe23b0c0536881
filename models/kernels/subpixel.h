#pragma once

#include "convae/models/geometry.h"

#include <torch/types.h>

/// A transposed convolution to few channels, by another way to the same sum: a convolution gives,
/// for each pixel of the input, all stride.h · stride.w pixels of the output that begin there, as
/// channels, and those are put side by side (Shi et al. 2016, "Is the deconvolution layer the same
/// as a convolutional layer?", https://arxiv.org/abs/1609.07009). LibTorch's own computes 3
/// channels at a sixth of its usual speed; this takes half to two thirds of the time.
namespace convae {

/// True where the function below is right and fast: float on a CPU, outside of autocast, to at most
/// 4 channels with a stride, and few taps of the convolution's kernel left at zero.
bool suits_subpixels(const torch::Tensor& x, std::int64_t channels, const LevelSpec& level);

/// x: (N, C, h, w) channels-last; weight: (C, channels, kernel); bias: (channels) or undefined.
/// Returns (N, channels, h', w') channels-last, where h' is (h - 1)·stride - 2·padding +
/// dilation·(kernel - 1) + 1 + output_padding. Differentiable once.
torch::Tensor subpixel_conv_transpose(const torch::Tensor& x, const torch::Tensor& weight,
                                      const torch::Tensor& bias, const LevelSpec& level,
                                      Size output_padding);

}  // namespace convae
