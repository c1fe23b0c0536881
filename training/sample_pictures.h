#pragma once

#include "convae/data/dataset.h"
#include "convae/metrics/image_quality.h"
#include "convae/models/autoencoder.h"
#include "convae/training/corruption.h"

#include <cstdint>
#include <vector>

namespace convae {

/// Images with a longer side are shrunk to this in sample pictures.
inline constexpr std::int64_t kMaxSampleSide = 1024;

/// comparison_pictures below each other, and the quality of their images.
struct SamplePicture {
  torch::Tensor picture;             ///< (3, h, w) uint8
  std::vector<ImageQuality> images;  ///< from the top
};

/// Reconstructs images of `source` one by one, in evaluation mode: the first `count` of `indices`
/// that can be read. `rule` corrupts the input; the error is the distance from the clean image.
SamplePicture sample_picture(Autoencoder& net, ImageDataset& source,
                             const std::vector<std::int64_t>& indices, std::int64_t count,
                             const CorruptionRule& rule, torch::Device device);

}  // namespace convae
