#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/dataset.h"
#include "convae/data/options.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

/// From a folder to the images a job can use, and on to training and validation images: the one way
/// for all jobs.
namespace convae {

/// Why an image cannot be used, from its header; nullopt if it can. Headers that cannot be read and
/// images above max_pixels are left out before.
using Refusal = std::function<std::optional<std::string>(const ImageEntry&)>;

/// The images of a folder.
struct FoundImages {
  std::filesystem::path folder;     ///< that was listed
  std::vector<ImageEntry> entries;  ///< usable ones, sorted by name
  std::vector<SkippedFile> skipped;
};

/// Lists `folder`, reads the headers and applies `refuse`. `prefix` goes before the names, which
/// are relative to what the user named. Warns of each skipped file and of pages that are not read.
/// Throws std::runtime_error where the folder cannot be read, where nothing is left, or, with
/// options.skip_bad false, for the first image that cannot be used.
FoundImages find_images(const std::filesystem::path& folder, const DataOptions& options,
                        const Refusal& refuse, const Callbacks& callbacks = {},
                        const std::string& prefix = "");

/// The images of a run.
struct SplitImages {
  std::filesystem::path folder;  ///< options.data, or train/good in it
  std::vector<ImageEntry> training, validation;
  std::vector<SkippedFile> skipped;
  std::int64_t channels = 3;  ///< options.channels, or 1 where all images are grey
};

/// Finds the images of options.data and options.val and splits them: the share val_split of the
/// groups is kept for validation, unless there is a folder of validation images. Throws as
/// find_images() does, and std::runtime_error where nothing is left to train on.
SplitImages split_images(const DataOptions& options, const Refusal& refuse,
                         const Callbacks& callbacks = {});

/// The size at which batches hold an image: the crop, the size asked for, or its own.
Size size_in_batches(const ImageEntry& entry, const DataOptions& options);

/// The first reason why an image cannot be cropped as `options` say, or nullopt.
std::optional<std::string> why_not_cropped(const ImageEntry& entry, const DataOptions& options);

}  // namespace convae
