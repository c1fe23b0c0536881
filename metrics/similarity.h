#pragma once

#include "convae/core/tensor.h"

#include <cstdint>

namespace convae {

/// Side of the Gaussian window of both measures; smaller images have no value.
inline constexpr std::int64_t kSimilarityWindow = 11;

/// The window's weights along one side, which sum to 1: (kSimilarityWindow) double.
torch::Tensor similarity_window();

/// Structural similarity of each image (Wang, Bovik, Sheikh & Simoncelli 2004,
/// https://doi.org/10.1109/TIP.2003.819861): 11×11 Gaussian window with σ 1.5, population
/// covariance, K1 0.01, K2 0.03, L 1, mean over the area where the window fits and over channels.
/// Both (N, C, H, W) in [0,1] → (N) in [-1,1], of the images' type and device; differentiable.
/// Takes sides of at least kSimilarityWindow.
torch::Tensor ssim(const torch::Tensor& reconstruction, const torch::Tensor& target);

/// Number of scales for an image of that shorter side, 0 to 5: each halves it, and the window must
/// fit.
std::int64_t ms_ssim_scales(std::int64_t shorter_side);

/// Multi-scale structural similarity of each image (Wang, Simoncelli & Bovik 2003,
/// https://doi.org/10.1109/ACSSC.2003.1292216): contrast and structure at every scale, luminance
/// at the last, to the powers of the paper; scales by 2×2 means. Negative factors count as 0.
/// Images below 161 pixels a side have fewer scales, whose powers are stretched to the same sum.
/// Both (N, C, H, W) in [0,1] → (N) in [0,1]; differentiable. Sides as for ssim().
torch::Tensor ms_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target);

}  // namespace convae
