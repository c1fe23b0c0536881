#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"
#include "convae/core/size.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// Default limit to an image's pixels.
inline constexpr std::int64_t kDefaultMaxPixels = 100'000'000;
/// No limit: more than any file has.
inline constexpr std::int64_t kAnyArea = std::int64_t{1} << 60;

/// Whether to keep decoded images in memory: if they fit in half of the free memory, always, or
/// never.
enum class Cache { automatic, ram, none };
constexpr auto names(Cache) {
  return std::to_array<Name<Cache>>(
      {{Cache::automatic, "auto"}, {Cache::ram, "ram"}, {Cache::none, "none"}});
}

/// Which values of the files become 0 and 1, one pair for all channels.
struct ValueRange {
  /// full: all that 8 or 16 bits hold, and [0,1] of floats; automatic: that of the training images;
  /// unsaid: full, or what weights to begin with were trained on.
  enum class Kind { unsaid, full, automatic, fixed };
  Kind kind = Kind::full;
  double low = 0, high = 1;  ///< of a fixed one, in the files' own numbers

  bool is_fixed() const { return kind == Kind::fixed; }
  friend bool operator==(const ValueRange&, const ValueRange&) = default;
};
/// "full", "auto" or "LO:HI", and back. Throws OptionError where LO is not below HI.
std::string to_string(const ValueRange& range);
ValueRange parse_value_range(const std::string& text);

/// Throws OptionError for a size with a side below 1, other than {0, 0}.
void require_sides(const char* option, Size size);

/// Throws OptionError for a number of threads that worker_count() does not take.
void require_workers(std::int64_t workers);

/// Where images come from and how they are prepared.
struct DataOptions {
  std::string data;                  ///< folder of images
  std::string val;                   ///< folder of validation images; empty: a share of `data`
  std::vector<std::string> include;  ///< globs of the files to use, see Globs; empty: all
  std::vector<std::string> exclude;  ///< globs of files to leave out
  std::vector<std::string> images;   ///< the only ones to use, by their names in `data` as
                                     ///< printable() shows them; empty: all
  double val_split = 0.1;     ///< share of `data` kept for validation, by a hash of the group
  std::string group_regex;    ///< which images belong together, see Grouping; empty: each alone
  Size size;                  ///< resize to; {0, 0}: native
  Size crop;                  ///< cut out after resizing; {0, 0}: no
  std::int64_t channels = 0;  ///< 1 or 3 for the whole run; 0: 1 if every image is grey, else 3
  ValueRange value_range{
      ValueRange::Kind::unsaid};  ///< of the files' numbers, kept in the checkpoint
  Cache cache = Cache::automatic;
  std::int64_t workers = -1;  ///< decoding threads; -1: as many as cores
  bool skip_bad = true;       ///< skip images that cannot be used instead of stopping
  std::int64_t max_pixels = kDefaultMaxPixels;  ///< larger images cannot be used
  std::string index;  ///< folder to keep headers in, so that they are read once; empty: none

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;
};

}  // namespace convae
