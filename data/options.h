#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace convae {

/// Most pixels an image may have unless told otherwise.
inline constexpr std::int64_t kDefaultMaxPixels = 100'000'000;

/// Height and width of an image in pixels. {0, 0} in options: as the file has it.
struct ImageSize {
  std::int64_t height = 0;
  std::int64_t width = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes the comparison's own 0 for one
  friend auto operator<=>(const ImageSize&, const ImageSize&) = default;
};

/// Whether decoded images are kept in memory: when they fit in half of what is free, always, or
/// never.
enum class Cache { automatic, ram, none };
const char* to_string(Cache cache);

/// Where images come from and what is made of them.
struct DataOptions {
  std::string data;           ///< folder of images
  std::string val;            ///< folder of validation images; empty: a share of `data`
  double val_split = 0.1;     ///< share of `data` kept for validation, by a hash of the group
  std::string group_regex;    ///< which images belong together, see Grouping; empty: each alone
  ImageSize size;             ///< resize to; {0, 0}: native
  ImageSize crop;             ///< cut out after resizing; {0, 0}: no
  std::int64_t channels = 0;  ///< 1 or 3 for the whole run; 0: 1 if every image is grey, else 3
  Cache cache = Cache::automatic;
  std::int64_t workers = -1;  ///< decoding threads; -1: as many as cores
  bool skip_bad = true;       ///< skip images that cannot be used instead of stopping
  std::int64_t max_pixels = kDefaultMaxPixels;  ///< larger images cannot be used

  /// Throws std::invalid_argument naming the option, its value and what is expected.
  void validate() const;
};

}  // namespace convae
