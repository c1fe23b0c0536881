#pragma once

#include "convae/data/folder.h"
#include "convae/data/image_io.h"
#include "convae/data/options.h"

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace convae {

/// An image as its header describes it.
struct ImageEntry {
  ImageFile file;
  ImageInfo info;
  Size file_size() const { return {info.height, info.width}; }
};

/// What the headers of a folder's images say, before any is decoded.
struct FolderScan {
  std::vector<ImageEntry> entries;  ///< usable ones, sorted by name
  std::vector<SkippedFile> skipped;
};

bool all_grey(const std::vector<ImageEntry>& entries);

/// Reads the headers of all files, on `workers` threads.
FolderScan scan_headers(const ImageFolder& folder, std::int64_t max_pixels, std::int64_t workers);

/// True where a group of files (see Grouping; without one, a file) belongs to the validation share:
/// a hash of its name is below the share, so that adding files never moves one from one side to the
/// other.
bool in_validation_share(const std::string& group, double share);

/// Images of one number of channels, ready for batches: decoded, resized and, where memory allows,
/// kept. Safe to use from several threads.
class ImageDataset {
public:
  struct Options {
    std::int64_t channels = 3;
    Size size;  ///< resize to; {0, 0}: native
    Size crop;  ///< {0, 0}: no
    Cache cache = Cache::automatic;
    bool skip_bad = true;
    std::int64_t max_pixels = kDefaultMaxPixels;
  };

  ImageDataset(std::vector<ImageEntry> entries, const Options& options);

  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  const ImageEntry& entry(std::int64_t index) const { return entries_[index]; }
  const Options& options() const { return options_; }

  /// Size of the image as batches see it.
  Size image_size(std::int64_t index) const;

  /// The resized, uncropped image: (C, H, W) uint8 or uint16 with channels-last strides.
  /// nullopt if it cannot be used; it is then reported and counted once, or, with skip_bad false,
  /// std::runtime_error is thrown.
  std::optional<torch::Tensor> load(std::int64_t index);

  /// True if load(index) needs no decoding.
  bool cached(std::int64_t index) const;

  /// Images found unusable so far, in the order they were found.
  std::vector<SkippedFile> bad_files() const;

  /// Called, from whichever thread found it, once for each image that cannot be used.
  std::function<void(const SkippedFile&)> on_bad_file;

private:
  torch::Tensor decode(std::int64_t index) const;

  std::vector<ImageEntry> entries_;
  Options options_;
  bool keep_ = false;
  mutable std::mutex mutex_;  // guards what follows
  std::vector<std::optional<torch::Tensor>> kept_;
  std::vector<bool> bad_;
  std::vector<SkippedFile> bad_files_;
};

/// Cuts `crop` out of a (C, H, W) image at (top, left).
torch::Tensor crop_image(const torch::Tensor& image, Size crop, std::int64_t top,
                         std::int64_t left);

}  // namespace convae
