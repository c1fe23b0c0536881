#pragma once

#include "convae/app/inference.h"
#include "convae/inspection/scorer.h"

#include <functional>
#include <optional>
#include <string>

namespace convae::app {

/// The views of an image that scores look at.
enum ScoreView : std::size_t {
  kResidual,  ///< the image minus its reconstruction
  kImage,     ///< the image minus the mean of each colour, as if there were no network
  kViews
};

/// What is left of one image.
struct Leftovers {
  std::int64_t index = 0;      ///< in the data set
  AnomalyScorer::Views views;  ///< kViews of them
  double mean_error = 0;       ///< mean squared error of the reconstruction
  torch::Tensor pixels;        ///< (C, H, W) uint8 or uint16, at its own size
};

/// Puts all images through the network and hands over what is left of each, in any order, until
/// `use` says false. `title` is what the progress bar shows.
void for_each_leftovers(Inference& inference, const Options& options, const std::string& title,
                        const std::function<bool(const Leftovers&)>& use);

}  // namespace convae::app
