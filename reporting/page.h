#pragma once

#include "convae/core/tensor.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

/// What the pages of reports share: one file each, which asks for no other.
namespace convae {

enum class Page { run, scores };

/// The page with its data, to which convae's version and the time are added.
std::string page_with(Page page, nlohmann::ordered_json data);

/// A picture, (1 or 3, h, w) uint8, as a data: URI: with sides of at most `side` pixels. JPEG, or
/// PNG for those so small that pages show them enlarged, where a JPEG's blocks would be seen.
std::string thumbnail_uri(const torch::Tensor& picture, std::int64_t side);

/// Bins of a histogram, about 20, of a round width (1, 2 or 5 times a power of ten).
struct Bins {
  double width = 1, start = 0;
  std::size_t count = 1;

  /// How many values are in each; what is beyond them is in the first or the last.
  std::vector<std::int64_t> counts(const std::vector<double>& values) const;
};
/// Bins with `low` in the first and `high` in the last.
Bins bins_between(double low, double high);

}  // namespace convae
