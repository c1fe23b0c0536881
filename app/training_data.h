#pragma once

#include "convae/app/options/options.h"
#include "convae/data/dataset.h"

#include <filesystem>
#include <string>
#include <vector>

namespace convae::app {

/// The images of a run, split.
struct TrainingData {
  std::filesystem::path folder;
  std::vector<ImageEntry> training, validation;
  std::vector<SkippedFile> skipped;
  std::int64_t channels = 3;
};

/// The size at which batches hold an image.
Size size_in_batches(const ImageEntry& entry, const DataOptions& options);

/// Lists the images of a run, reads their headers, leaves out what cannot be used and splits the
/// rest. Throws std::runtime_error where nothing is left to train on.
TrainingData find_images(const Options& options);

/// Throws std::runtime_error saying that `folder` has no usable image if there are no entries.
void require_images(const std::vector<ImageEntry>& entries, const std::string& folder,
                    std::size_t skipped);

}  // namespace convae::app
