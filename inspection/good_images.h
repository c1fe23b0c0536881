#pragma once

#include "convae/inference/folder.h"

#include <cstdint>
#include <vector>

namespace convae {

/// Images without a defect that others are compared with.
struct GoodImages {
  /// Images the network was trained on, for what good images leave at each place (at most
  /// kMostTrainingImages, spread evenly), and after them held-out ones, which the network was not
  /// trained on, for everything that decides about a score.
  std::vector<ImageEntry> entries;
  /// Of each of entries, see AnomalyScorer: images of one group share a fold.
  std::vector<int> folds;
  int fold_count = 0;
  std::int64_t groups = 0;  ///< of held-out images
  std::int64_t training_images = 0;
};

inline constexpr std::size_t kMostTrainingImages = 500;

/// The images of the folder options.data.data, all taken as held out; where that is empty, those of
/// the model's run: its training images and those it kept out of training. Groups are those of
/// options.data.group_regex.
/// Throws std::runtime_error where there are too few, saying what to do, and what find_images()
/// throws.
GoodImages find_good_images(const Model& model, const FolderOptions& options,
                            const Callbacks& callbacks = {});

}  // namespace convae
