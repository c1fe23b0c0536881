#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/tensor.h"
#include "convae/data/folder.h"
#include "convae/data/image_entries.h"
#include "convae/data/image_io.h"
#include "convae/data/options.h"

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace convae {

/// A folder's images by their headers, before any is decoded.
struct FoundImages {
  std::filesystem::path folder;  ///< that was listed
  ImageEntries entries;          ///< usable ones, sorted by name
  std::vector<SkippedFile> skipped;
  std::function<void()> keep_headers = [] {};  ///< for the next run, in the folder `index`
};

bool all_grey(const ImageEntries& entries);

/// Reads the headers of all files, on `workers` threads; those that HeaderIndex has in the folder
/// `index` are not read again. Shows progress where it takes longer than a second.
FoundImages scan_headers(ImageFolder folder, std::int64_t max_pixels, std::int64_t workers,
                         const std::string& index = "", const Callbacks& callbacks = {});

/// True if a group of files (see Grouping; without one, a file) belongs to the validation share: a
/// hash of its name is below the share, so adding files never moves others.
bool in_validation_share(const std::string& group, double share);

/// Images with the same number of channels, decoded, resized and, if memory allows, kept.
/// Thread-safe.
class ImageDataset {
public:
  struct Options {
    std::int64_t channels = 3;
    Size size = {};  ///< resize to; {0, 0}: native
    Size crop = {};  ///< {0, 0}: no
    Cache cache = Cache::automatic;
    bool skip_bad = true;
    std::int64_t max_pixels = kDefaultMaxPixels;
    ValueRange value_range = {};
  };

  ImageDataset(ImageEntries entries, const Options& options);

  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  ImageEntry entry(std::int64_t index) const { return entries_[index]; }
  std::string name(std::int64_t index) const { return entries_.name(index); }
  std::vector<std::string> names() const;  ///< of all, by index
  const Options& options() const { return options_; }

  /// Size of the image in batches.
  Size image_size(std::int64_t index) const;

  /// With Cache::automatic, keeps the images in memory if all of them take less than `bytes`; half
  /// the free memory, where this is not called. To be called before the first load(). Returns the
  /// bytes that all images will take, 0 where they are not kept.
  std::int64_t cache_within(std::int64_t bytes);

  /// Of the image while it is decoded, at its own size, and as it is handed out.
  std::int64_t decoded_bytes(std::int64_t index) const;
  std::int64_t stored_bytes(std::int64_t index) const;

  /// The resized, uncropped image: (C, H, W) as decode_image() gives it; of one that load_crop()
  /// reads in parts, the crop in its middle. One that cannot be used is reported once and nullopt;
  /// with skip_bad false, it throws std::runtime_error. Where the reason may pass (see may_pass()),
  /// the next call tries again.
  std::optional<torch::Tensor> load(std::int64_t index);

  /// A crop of the size in options(), at the place that `place` chooses among so many free rows and
  /// columns. Of an image above options().max_pixels no more is decoded than its file asks for, see
  /// ImageWindows. Otherwise as load().
  std::optional<torch::Tensor> load_crop(std::int64_t index,
                                         const std::function<Size(Size free)>& place);

  /// The file's own bytes; nullopt as for load().
  std::optional<std::vector<std::uint8_t>> read_file_of(std::int64_t index);

  /// True if load(index) needs no decoding.
  bool cached(std::int64_t index) const;

  /// Images that turned out unusable so far, in that order, without those that could be read later.
  std::vector<SkippedFile> bad_files() const;

  /// How many values of the images loaded so far lay outside the value range, for people; empty
  /// where none did.
  std::string clipped_line() const;
  /// The same by index, of images that are read elsewhere or loaded by other processes.
  struct ClippedValues {
    std::int64_t clipped = 0, decoded = 0;
  };
  using Clipped = std::vector<std::pair<std::int64_t, ClippedValues>>;
  Clipped clipped() const;
  void note_clipped(const Clipped& elsewhere);

  /// Called once for each image that cannot be used, from the thread that found it.
  std::function<void(const SkippedFile&)> on_bad_file;

private:
  enum class State : std::uint8_t { good, failing, bad };  ///< failing: for a reason that may pass
  torch::Tensor decode(std::int64_t index);
  torch::Tensor decode_crop(std::int64_t index, const std::function<Size(Size free)>& place);
  std::optional<torch::Tensor> attempt(std::int64_t index,
                                       const std::function<torch::Tensor()>& read);
  bool is_cut_from_file(std::int64_t index) const;
  std::int64_t decoded_values(std::int64_t index) const;
  std::int64_t bytes_per_value(std::int64_t index) const;
  void note_bad(std::int64_t index, const SkippedFile& bad, State state);
  /// Throws where bad files are not skipped.
  void note_failure(std::int64_t index, const std::exception& error);

  ImageEntries entries_;
  Options options_;
  bool keep_ = false;
  mutable std::mutex mutex_;                        // guards what follows
  std::vector<std::optional<torch::Tensor>> kept_;  // empty: none are
  std::vector<State> states_;
  std::vector<SkippedFile> bad_files_;
  std::map<std::int64_t, ClippedValues> clipped_;  // of each image that has some
};

}  // namespace convae
