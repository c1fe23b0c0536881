#pragma once

#include "convae/core/api.h"

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace CONVAE_API convae {

/// Where a value may lie; NaN: unknown.
struct Interval {
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

struct BootstrapOptions {
  std::int64_t draws = 1000;
  double confidence = 0.95;
  std::uint64_t seed = 0;
};

/// A value of a sample, from the indices of its items, which may repeat. NaN where the sample has
/// no such value (say, of one class only): that draw does not count.
using Statistic = std::function<double(std::span<const std::int64_t> items)>;

/// Percentile interval of a statistic over items 0 … count-1, drawn with replacement (Efron 1979,
/// https://doi.org/10.1214/aos/1176344552). Depends on the seed alone. NaN for fewer than two
/// items.
Interval bootstrap_interval(std::int64_t count, const Statistic& statistic,
                            const BootstrapOptions& options = {});

/// The same for items in groups, such as several pictures of one part: draws whole groups, since
/// items of one group do not vary freely. NaN for fewer than two groups.
Interval bootstrap_interval(const std::vector<std::vector<std::int64_t>>& groups,
                            const Statistic& statistic, const BootstrapOptions& options = {});

/// Interval of the mean of those values that are not NaN.
Interval bootstrap_mean_interval(std::vector<double> values, const BootstrapOptions& options = {});

/// The q-quantile, q in [0,1], of values in any order, with straight lines between neighbours (type
/// 7 of Hyndman & Fan 1996, https://doi.org/10.2307/2684934; NumPy's default). NaN without values.
double quantile(std::vector<double> values, double q);

}  // namespace convae
