#include "data/options.h"

#include "data/grouping.h"

#include <stdexcept>

namespace convae {

const char* to_string(Cache cache) {
  switch (cache) {
    case Cache::automatic:
      return "auto";
    case Cache::ram:
      return "ram";
    case Cache::none:
      return "none";
  }
  return "";
}

void DataOptions::validate() const {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw std::invalid_argument(message);
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
  const bool fits = crop.height <= 0 || size.height <= 0 ||
                    (crop.height <= size.height && crop.width <= size.width);
  require(fits, "crop " + std::to_string(crop.height) + "x" + std::to_string(crop.width) +
                    " does not fit into size " + std::to_string(size.height) + "x" +
                    std::to_string(size.width));
}

}  // namespace convae
