#pragma once

#include "convae/core/size.h"
#include "convae/core/tensor.h"

/// Shortcuts without parameters around a level, added to its output (Chen et al. 2024, "Deep
/// Compression Autoencoder for Efficient High-Resolution Diffusion Models",
/// https://arxiv.org/abs/2410.10733).
///
/// Any number of channels is made of any other as adaptive average pooling does it: of A, channel j
/// of B is the mean of channels floor(jA/B) to ceil((j+1)A/B) - 1. That averages groups where B
/// divides A, and repeats channels where A divides B. Where the size is no multiple of the stride,
/// the edge is repeated if the level rounds up; if it rounds down, the rest is left out going down,
/// and the edge is repeated going up.
namespace convae {

/// (N, C, H, W) → (N, channels, out.h, out.w) channels-last: stride.h × stride.w pixels side by
/// side become channels, in the order of pixel_unshuffle, and these are averaged to `channels`.
torch::Tensor shuffled_down(const torch::Tensor& x, Size stride, std::int64_t channels, Size out);

/// The way back: channels are repeated, and put side by side in the order of pixel_shuffle.
torch::Tensor shuffled_up(const torch::Tensor& x, Size stride, std::int64_t channels, Size out);

/// The matrix (from, to) that averages `from` channels to `to`.
torch::Tensor channel_shares(std::int64_t from, std::int64_t to);

/// y + x in y's type; in place where no gradient is kept, so y must not be used elsewhere.
torch::Tensor added(torch::Tensor y, const torch::Tensor& x);

}  // namespace convae
