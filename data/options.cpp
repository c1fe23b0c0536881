#include "convae/data/options.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"
#include "convae/data/grouping.h"

#include <fmt/format.h>

#include <cmath>

namespace convae {

std::string to_string(const ValueRange& range) {
  if (range.is_fixed()) return number_text(range.low) + ":" + number_text(range.high);
  return range.kind == ValueRange::Kind::automatic ? "auto" : "full";
}

ValueRange parse_value_range(const std::string& text) {
  if (text == "full") return {};
  if (text == "auto") return {ValueRange::Kind::automatic};
  const std::size_t colon = text.find(':');
  if (colon != std::string::npos) {
    const auto low = parse_number(text.substr(0, colon));
    const auto high = parse_number(text.substr(colon + 1));
    if (low && high && *low < *high && std::isfinite(*high - *low))
      return {ValueRange::Kind::fixed, *low, *high};
  }
  throw OptionError("expected full, auto or LO:HI with LO below HI, such as 0:4095");
}

void require_sides(const char* option, Size size) {
  require_option(
      !size || (size.h > 0 && size.w > 0),
      fmt::format("{} must have sides of at least 1, but is {}", option, to_string(size)));
}

void require_workers(std::int64_t workers) {
  require_option(
      workers >= -1 && workers <= 1024,
      fmt::format("workers must be between 0 and 1024 (or -1 for one a core), but is {}", workers));
}

void DataOptions::validate() const {
  require_sides("size", size);
  require_sides("crop", crop);
  require_option(channels == 0 || channels == 1 || channels == 3,
                 fmt::format("channels must be 1 or 3, but is {}", channels));
  require_option(val_split >= 0 && val_split < 1,
                 fmt::format("val-split must be at least 0 and below 1, but is {:f}", val_split));
  [[maybe_unused]] const Grouping works(group_regex);  // throws where it does not
  require_workers(workers);
  require_option(max_pixels >= 1,
                 fmt::format("max-pixels must be at least 1, but is {}", max_pixels));
  const bool fits = !crop || !size || (crop.h <= size.h && crop.w <= size.w);
  require_option(
      fits, fmt::format("crop {} does not fit into size {}", to_string(crop), to_string(size)));
}

}  // namespace convae
