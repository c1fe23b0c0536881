#include "convae/data/options.h"

#include "convae/core/errors.h"
#include "convae/data/grouping.h"

#include <fmt/format.h>

namespace convae {

void DataOptions::validate() const {
  require_option(channels == 0 || channels == 1 || channels == 3,
                 fmt::format("channels must be 1 or 3, but is {}", channels));
  require_option(val_split >= 0 && val_split < 1,
                 fmt::format("val-split must be at least 0 and below 1, but is {:f}", val_split));
  [[maybe_unused]] const Grouping works(group_regex);  // throws where it does not
  require_option(
      workers >= -1 && workers <= 1024,
      fmt::format("workers must be between 0 and 1024 (or -1 for one a core), but is {}", workers));
  require_option(max_pixels >= 1,
                 fmt::format("max-pixels must be at least 1, but is {}", max_pixels));
  const bool fits = !crop || !size || (crop.h <= size.h && crop.w <= size.w);
  require_option(
      fits, fmt::format("crop {} does not fit into size {}", to_string(crop), to_string(size)));
}

}  // namespace convae
