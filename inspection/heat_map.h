#pragma once

#include "convae/core/size.h"
#include "convae/core/tensor.h"

namespace convae {

/// A map (H, W) float at the size wanted.
torch::Tensor resize_map(const torch::Tensor& map, Size size);

/// Pictures of maps of anomaly, all on one scale from 0 to `full`, so that those of a whole set can
/// be compared with each other; what is above is shown as `full`.

/// The map alone: (H, W) float → (1, H, W) uint16, 65535 for `full`.
torch::Tensor heat_picture(const torch::Tensor& map, double full);

/// The map over its image, in grey: transparent where it is 0, through red to yellow at `full`.
/// image: (C, H, W) uint8 or uint16 → (3, H, W) uint8.
torch::Tensor heat_over_image(const torch::Tensor& image, const torch::Tensor& map, double full);

}  // namespace convae
