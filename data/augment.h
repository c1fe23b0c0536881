#pragma once

#include "convae/core/tensor.h"
#include "convae/data/effects.h"

#include <cstdint>

namespace convae {

/// All that an image's random treatment depends on: not on threads or the order of reading.
struct Draw {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t index = 0;  ///< of the image in its data set
};

/// The image as this epoch shows it: (C, H, W) uint8, uint16 or float, any strides → the same size
/// and type, channels-last strides. Does not change `image`. Every effect has its own random
/// numbers, so adding one does not change another.
torch::Tensor augment(const torch::Tensor& image, const Effects& augmentations, const Draw& draw);

}  // namespace convae
