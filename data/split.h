#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/paths.h"
#include "convae/data/dataset.h"
#include "convae/data/options.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

/// From a folder to usable images, and on to training and validation images.
namespace convae {

/// Why an image cannot be used, by its header alone (it is given no file); nullopt if it can. Not
/// asked about unreadable headers and images above max_pixels.
using Refusal = std::function<std::optional<std::string>(const ImageEntry&)>;

/// Says what a listing left out on purpose and passed over; warns of images in formats that are not
/// read, and of shards beside images.
void tell_of(const ImageFolder& listed, const Callbacks& callbacks);

/// Lists `folder` (with options.include, exclude and images), reads the headers and applies
/// `refuse`. Names are relative to `folder`, after `prefix`. Warns of each skipped file, of unread
/// pages and of masks among the images; says what was left out and passed over. Globs that match
/// nothing are put into `unmatched`, as flags, or warned of. Throws std::runtime_error where the
/// folder cannot be read, nothing is left, or, with options.skip_bad false, an image cannot be
/// used.
FoundImages find_images(const std::filesystem::path& folder, const DataOptions& options,
                        const Refusal& refuse, const Callbacks& callbacks = {},
                        const std::string& prefix = "",
                        std::vector<std::string>* unmatched = nullptr);

/// "--exclude 'x' matches no image in 'photos'; …"
std::string unmatched_line(const std::string& glob, const std::filesystem::path& folder);

/// The images of a run.
struct SplitImages {
  std::filesystem::path folder;  ///< options.data, or where an InspectionLayout has good images
  ImageEntries training, validation;
  std::vector<SkippedFile> skipped;
  std::int64_t channels = 3;                   ///< options.channels, or 1 where all images are grey
  std::function<void()> keep_headers = [] {};  ///< for the next run, in options.index
};

/// Finds the images of options.data and options.val. Where options.images names them, no layout
/// counts. Without options.val, those that the layout of options.data has for it, else the share
/// val_split of the groups are for validation. Validation images are taken out of training. Throws
/// like find_images(), and std::runtime_error where no image is left to train on.
SplitImages split_images(const DataOptions& options, const Refusal& refuse,
                         const Callbacks& callbacks = {});

/// Which image it is, by whatever path it was found: the file and, in a shard, where.
using ImageId = std::pair<std::optional<FileId>, std::int64_t>;
inline ImageId image_id(const ImageFile& file) { return {file_id(file.path), file.offset}; }

/// Good images of options.data that no network was trained on, as far as its layout tells: those
/// for validation, else those for training, else all. Throws std::runtime_error where there is a
/// folder of images with defects and none of good ones.
FoundImages find_good_images(const DataOptions& options, const Refusal& refuse,
                             const Callbacks& callbacks = {});
/// Whether that lists any, by their names alone.
bool has_good_images(const DataOptions& options);

/// The size at which batches hold an image: the crop, the size asked for, or its own.
Size size_in_batches(const ImageEntry& entry, const DataOptions& options);

/// The first reason why an image cannot be cropped as `options` say, or nullopt.
std::optional<std::string> why_not_cropped(const ImageEntry& entry, const DataOptions& options);

}  // namespace convae
