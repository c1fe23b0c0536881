#pragma once

#include "convae/data/split.h"
#include "convae/training/checkpoint_info.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace convae {

/// What a run was trained on: enough to find its images again and to split them as it did.
struct SavedData {
  DataOptions data;  ///< `data` is empty for a model that was saved without a run
  Loss loss{LossTerm{}};
};

/// Reads it from the configuration in a run's checkpoint; keys that are not about images are passed
/// over, missing ones keep their defaults.
/// Throws CheckpointError where the configuration is damaged or has values that cannot work.
SavedData saved_data(const CheckpointInfo& info);

/// The configuration of a run whose other options nobody keeps: saved_data() reads it.
std::string data_config(const SavedData& saved);

/// Leaves out images that `info` was not trained on, such as later ones, as far as the images.csv
/// of `run` tells, and warns of these and of images that are gone. Nothing happens where it lists
/// others.
void keep_to_trained_images(SplitImages& images, const std::filesystem::path& run,
                            const CheckpointInfo& info, const Callbacks& callbacks);

/// The names in a table of the run, such as images.csv or skipped.csv, as printable() shows them;
/// none where it is missing or damaged, or where `run` is empty.
std::set<std::string> names_in(const std::filesystem::path& run, const char* table);

/// How many images are among those that a run was trained on, or validated on.
struct OwnImages {
  std::int64_t training = 0, validation = 0;
  /// With the names of training images whose folder is gone: they may have been moved.
  std::int64_t namesakes = 0;
};
using ImageAt = std::function<ImageFile(std::int64_t)>;
/// Of the images image_at(0) … image_at(count - 1), as far as the images.csv of `run` tells; none
/// where that is missing or damaged, or where `run` is empty. A link is the image it leads to.
OwnImages own_images_among(std::int64_t count, const ImageAt& image_at,
                           const std::filesystem::path& run, const CheckpointInfo& info);

/// Refuses images that are smaller than the crop, too small for the loss, or that the levels
/// cannot take, by their size in batches. Takes copies of all it needs.
Refusal unfit_for_training(const ModelOptions& model, const DataOptions& data, const Loss& loss);

}  // namespace convae
