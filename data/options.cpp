#include "convae/data/options.h"

#include "convae/core/errors.h"
#include "convae/data/grouping.h"

#include <stdexcept>

namespace convae {

void DataOptions::validate() const {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw OptionError(message);
  };
  require(channels == 0 || channels == 1 || channels == 3,
          "channels must be 1 or 3, but is " + std::to_string(channels));
  require(val_split >= 0 && val_split < 1,
          "val-split must be at least 0 and below 1, but is " + std::to_string(val_split));
  [[maybe_unused]] const Grouping works(group_regex);  // throws where it does not
  require(workers >= -1 && workers <= 1024,
          "workers must be between 0 and 1024 (or -1 for one a core), but is " +
              std::to_string(workers));
  require(max_pixels >= 1, "max-pixels must be at least 1, but is " + std::to_string(max_pixels));
  const bool fits = crop.h <= 0 || size.h <= 0 || (crop.h <= size.h && crop.w <= size.w);
  require(fits, "crop " + std::to_string(crop.h) + "x" + std::to_string(crop.w) +
                    " does not fit into size " + std::to_string(size.h) + "x" +
                    std::to_string(size.w));
}

}  // namespace convae
