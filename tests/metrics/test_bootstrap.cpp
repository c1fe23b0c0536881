#include "convae/metrics/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace convae::test_bootstrap {
namespace {

const double kNone = std::nan("");

/// Evenly spaced quantiles of the logistic distribution.
std::vector<double> spread_values(int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i) {
    const double p = (i + 0.5) / count;
    values.push_back(std::log(p / (1 - p)));
  }
  return values;
}

double deviation(const std::vector<double>& values) {
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / std::ssize(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / std::ssize(values));
}

TEST(Quantile, LiesOnStraightLinesBetweenNeighbours) {
  EXPECT_DOUBLE_EQ(quantile({4, 1, 2}, 0), 1);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 2}, 0.5), 2);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 2}, 0.75), 3);
  EXPECT_DOUBLE_EQ(quantile({4, 1, 2}, 1), 4);
  EXPECT_DOUBLE_EQ(quantile({7}, 0.3), 7);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

TEST(Bootstrap, OfAMeanIsWhatNormalTheoryGives) {
  const std::vector<double> values = spread_values(400);
  const Interval interval = bootstrap_mean_interval(values, {.draws = 4000});
  const double expected = 1.96 * deviation(values) / std::sqrt(400.0);
  EXPECT_NEAR(interval.low, -expected, 0.06 * expected);
  EXPECT_NEAR(interval.high, expected, 0.06 * expected);
}

TEST(Bootstrap, IsNarrowerAtALowerConfidence) {
  const std::vector<double> values = spread_values(400);
  const Interval half = bootstrap_mean_interval(values, {.draws = 4000, .confidence = 0.5});
  const double expected = 0.674 * deviation(values) / std::sqrt(400.0);
  EXPECT_NEAR(half.high - half.low, 2 * expected, 0.12 * expected);
}

TEST(Bootstrap, DependsOnTheSeedAlone) {
  const std::vector<double> values = spread_values(50);
  const Interval first = bootstrap_mean_interval(values, {.seed = 3});
  const Interval again = bootstrap_mean_interval(values, {.seed = 3});
  const Interval other = bootstrap_mean_interval(values, {.seed = 4});
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  EXPECT_NE(first.low, other.low);
}

TEST(Bootstrap, LeavesOutValuesThatAreNone) {
  const std::vector<double> values = {1, 2, 3, 4, 5};
  const std::vector<double> with_gaps = {kNone, 1, 2, kNone, 3, 4, 5};
  EXPECT_EQ(bootstrap_mean_interval(values).low, bootstrap_mean_interval(with_gaps).low);
  EXPECT_EQ(bootstrap_mean_interval(values).high, bootstrap_mean_interval(with_gaps).high);
}

TEST(Bootstrap, LeavesOutDrawsWithoutAValue) {
  // Both kinds of item are needed: about one draw of four items in eight has one kind only.
  const auto share_of_odd = [](std::span<const std::int64_t> items) {
    double odd = 0;
    for (const std::int64_t item : items) odd += static_cast<double>(item % 2);
    const double share = odd / static_cast<double>(items.size());
    return share == 0 || share == 1 ? kNone : share;
  };
  const Interval interval = bootstrap_interval(4, share_of_odd);
  EXPECT_EQ(interval.low, 0.25);
  EXPECT_EQ(interval.high, 0.75);
}

TEST(Bootstrap, OfOneItemKnowsNothing) {
  EXPECT_TRUE(std::isnan(bootstrap_mean_interval({1}).low));
  EXPECT_TRUE(std::isnan(bootstrap_mean_interval({}).high));
  EXPECT_TRUE(std::isnan(bootstrap_mean_interval({kNone, 2}).high));
  EXPECT_TRUE(std::isnan(bootstrap_interval({{0, 1, 2}}, [](auto) { return 1.0; }).low));
}

TEST(Bootstrap, DrawsWholeGroups) {
  // Copies of one item tell nothing new: groups of ten copies give the interval of one each.
  const std::vector<double> values = spread_values(40);
  std::vector<double> copies;
  std::vector<std::vector<std::int64_t>> groups;
  for (const double value : values) {
    groups.emplace_back();
    for (int i = 0; i < 10; ++i) {
      groups.back().push_back(std::ssize(copies));
      copies.push_back(value);
    }
  }
  const auto mean = [&](std::span<const std::int64_t> items) {
    double sum = 0;
    for (const std::int64_t item : items) sum += copies[static_cast<std::size_t>(item)];
    return sum / static_cast<double>(items.size());
  };
  const Interval grouped = bootstrap_interval(groups, mean);
  const Interval single = bootstrap_mean_interval(values);
  EXPECT_NEAR(grouped.low, single.low, 1e-12);
  EXPECT_NEAR(grouped.high, single.high, 1e-12);
  const Interval ungrouped = bootstrap_mean_interval(copies);
  EXPECT_LT(ungrouped.high - ungrouped.low, 0.5 * (grouped.high - grouped.low));
}

}  // namespace
}  // namespace convae::test_bootstrap
