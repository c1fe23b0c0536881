#pragma once

#include "convae/app/options/options.h"
#include "convae/data/dataset.h"
#include "convae/training/checkpoint.h"

#include <cstdint>
#include <vector>

namespace convae::app {

/// Images without a defect that scores are held against.
struct GoodImages {
  /// The run's training images, for what good images leave at each place; at most
  /// kMostTrainingImages of them, spread evenly.
  std::vector<ImageEntry> training;
  /// Images the network was not trained on, for everything that decides about a score.
  std::vector<ImageEntry> held_out;
  /// Of each of held_out, see LocationStatistics: images of one group share a fold.
  std::vector<int> folds;
  std::int64_t fold_count = 0;
  std::int64_t groups = 0;  ///< of held_out
};

inline constexpr std::size_t kMostTrainingImages = 500;

/// The good images of the run that a checkpoint is of: its training images and those it kept out of
/// training. With --good, all images of that folder instead, taken as held out.
/// `run` are the run's own options. Throws std::runtime_error where there are too few, saying what
/// to do.
GoodImages find_good_images(const Options& options, const Options& run, const ModelOptions& model);

}  // namespace convae::app
