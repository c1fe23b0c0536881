#include "convae/metrics/bootstrap.h"

#include "convae/core/random.h"

#include <algorithm>
#include <cmath>

namespace convae {

Interval bootstrap_interval(std::int64_t count, const Statistic& statistic,
                            const BootstrapOptions& options) {
  if (count < 2) return {};
  std::vector<double> values;
  std::vector<std::int64_t> sample(count);
  for (std::int64_t draw = 0; draw < options.draws; ++draw) {
    CounterRandom random(options.seed, /*epoch=*/0, draw, Purpose::bootstrap);
    for (std::int64_t& item : sample) item = random.below(count);
    const double value = statistic(sample);
    if (!std::isnan(value)) values.push_back(value);
  }
  const double tail = (1 - options.confidence) / 2;
  return {quantile(values, tail), quantile(values, 1 - tail)};
}

Interval bootstrap_interval(const std::vector<std::vector<std::int64_t>>& groups,
                            const Statistic& statistic, const BootstrapOptions& options) {
  std::vector<std::int64_t> items;
  const auto of_groups = [&](std::span<const std::int64_t> drawn) {
    items.clear();
    for (const auto group : drawn) {
      items.insert(items.end(), groups[group].begin(), groups[group].end());
    }
    return statistic(items);
  };
  return bootstrap_interval(std::ssize(groups), of_groups, options);
}

Interval bootstrap_mean_interval(std::vector<double> values, const BootstrapOptions& options) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  const auto mean = [&](std::span<const std::int64_t> items) {
    double sum = 0;
    for (const std::int64_t item : items) sum += values[item];
    return sum / static_cast<double>(items.size());
  };
  return bootstrap_interval(std::ssize(values), mean, options);
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace convae
