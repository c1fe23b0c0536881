#pragma once

#include "convae/inference/folder.h"
#include "convae/inspection/scorer.h"

#include <functional>
#include <string>

namespace convae {

/// The views of an image that scores look at.
enum ImageView : std::size_t {
  kResidualView,  ///< the image minus its reconstruction
  kImageView,     ///< the image minus the mean of each colour, as if there were no network
  kImageViews
};

/// What scores look at in one image.
struct ViewedImage {
  AnomalyScorer::Views views;  ///< kImageViews of them
  double mean_error = 0;       ///< mean squared error of the reconstruction
  std::int64_t index = 0;      ///< in its folder
  torch::Tensor pixels;        ///< (C, H, W) uint8 or uint16, at its own size
};

/// Views and error of an image; input, reconstruction: (C, H, W) float in [0,1] on the CPU.
ViewedImage views_of(const torch::Tensor& input, const torch::Tensor& reconstruction);

/// (C, H, W) → (1, C, H, W), with strides that do not depend on where the image comes from:
/// convolutions choose by them how they add up, and scores show the last bits.
torch::Tensor alone(const torch::Tensor& image);

/// A map (H, W) float at the size wanted.
torch::Tensor resize_map(const torch::Tensor& map, Size size);

/// Puts the images of a folder through its model and hands over the views of each, until `use` says
/// false. `stage` is what Callbacks::progress is told, `what` what Interrupted calls the images
/// ("the good images"). Throws it also between images of one batch, and std::runtime_error naming
/// the image where the network's output is not finite.
void for_each_viewed(ModelFolder& folder, const std::string& stage, const std::string& what,
                     const Callbacks& callbacks,
                     const std::function<bool(const ViewedImage&)>& use);

}  // namespace convae
