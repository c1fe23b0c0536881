#pragma once

#include "convae/data/effects.h"

#include <torch/types.h>

#include <cstdint>

namespace convae {

/// What a random treatment of an image depends on, and nothing else: neither threads nor the order
/// in which images are read.
struct Draw {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t index = 0;  ///< of the image in its data set
};

/// The image as this epoch shows it: (C, H, W) uint8 or uint16, any strides → the same size and
/// type, channels-last strides. `image` is left as it is. Every effect draws numbers of its own, so
/// that adding one does not change what another does.
torch::Tensor augment(const torch::Tensor& image, const Effects& augmentations, const Draw& draw);

}  // namespace convae
