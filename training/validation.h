#pragma once

#include "convae/data/dataset.h"
#include "convae/data/loader.h"
#include "convae/metrics/image_quality.h"
#include "convae/models/autoencoder.h"
#include "convae/models/pixels.h"
#include "convae/training/defects.h"
#include "convae/training/options.h"

#include <functional>
#include <limits>
#include <vector>

namespace convae {

/// Means over images, every image counting the same; NaN where no image has a value.
struct Quality {
  double loss = std::numeric_limits<double>::quiet_NaN();
  double mse = std::numeric_limits<double>::quiet_NaN();   ///< on [0,1]
  double psnr = std::numeric_limits<double>::quiet_NaN();  ///< dB
  double ssim = std::numeric_limits<double>::quiet_NaN();
  std::vector<ImageQuality> images;
  std::vector<std::int64_t> indices;  ///< of the images, in the data set
};

/// Reconstructs every image of `dataset` in evaluation mode and measures, with the loss (and
/// that of a detector), beta, corruptions (always the same ones), seed and batch size of `options`;
/// the model's mode is put back. At most `max_pixels` go through the network together. Drawn
/// defects take pieces of `good_pictures`. `should_stop` is asked between batches; once it says yes
/// the result covers only the images so far. Several ranks share the batches and all have the
/// result.
///
/// An image whose reconstruction is not finite has the worst values there are, and not none: a
/// model that diverged on some images must not look better for it.
Quality validate(Autoencoder& net, ImageDataset& dataset, const TrainOptions& options,
                 torch::Device device, std::int64_t workers,
                 const std::function<bool()>& should_stop = {},
                 std::int64_t max_pixels = kMaxBatchPixels, const GoodPictures& good_pictures = {});

}  // namespace convae
