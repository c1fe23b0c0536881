#pragma once

#include "convae/core/api.h"
#include "convae/core/tensor.h"
#include "convae/data/options.h"

#include <array>
#include <cstdint>
#include <vector>

namespace CONVAE_API convae {

/// Absolute difference of two images, mean over channels, as colours: black at 0, brightest from
/// kFullError on (in every picture, so that they compare). Both (C, H, W) float in [0,1] → (3, H,
/// W) uint8.
torch::Tensor error_picture(const torch::Tensor& image, const torch::Tensor& reconstruction);
inline constexpr double kFullError = 0.25;

/// Values in [0,1] as colours, (H, W) float → (3, H, W) uint8. inferno: black, red, yellow; hot:
/// black, red, yellow, white.
enum class ColourMap { inferno, hot };
torch::Tensor coloured(const torch::Tensor& values, ColourMap map);

/// No limit to the side of a picture.
inline constexpr std::int64_t kAnySide = std::int64_t{1} << 30;

/// White pixels between pictures that are shown together.
inline constexpr std::int64_t kPictureGap = 4;

/// input | reconstruction | error in one picture, each at shown_size(…, max_side). The error is the
/// distance from `target`, which is the input before corruption. All (C, H, W) float in [0,1], on
/// any device → (3, h, w) uint8.
torch::Tensor comparison_picture(const torch::Tensor& input, const torch::Tensor& reconstruction,
                                 const torch::Tensor& target, std::int64_t max_side = kAnySide);

/// Enlarges small images by a whole factor and shrinks those with a side above `max_side` to it.
Size shown_size(Size own, std::int64_t max_side = kAnySide);

/// A picture (C, H, W) at that size.
torch::Tensor at_shown_size(const torch::Tensor& picture, std::int64_t max_side);

/// Pictures of one height, (1 or 3, h, w_i) uint8, beside each other with white between →
/// (3, h, w).
torch::Tensor row_of_pictures(const std::vector<torch::Tensor>& pictures);

/// Pictures (3, h, w) uint8 of any sizes below each other, aligned left, on white.
torch::Tensor stack_pictures(const std::vector<torch::Tensor>& pictures);

/// Cuts a stack_pictures() of comparison_pictures into input, reconstruction and error of each,
/// (3, h, w) views. `shown` are their sizes, from the top. Empty where `picture` has another size
/// than such a stack.
std::vector<std::array<torch::Tensor, 3>> take_apart(const torch::Tensor& picture,
                                                     const std::vector<Size>& shown);

/// Float in [0,1] → uint8, rounded; NaN becomes 0.
torch::Tensor to_uint8(const torch::Tensor& image);
/// Float in [0,1] → uint16, rounded.
torch::Tensor to_uint16(const torch::Tensor& image);

}  // namespace convae
