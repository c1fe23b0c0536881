#include "convae/inspection/peak_model.h"
#include "convae/tests/support.h"

namespace convae::test_area_trend {
namespace {

/// Peaks of two channels: the first grows with the area, the second does not.
AreaTrend::Set images(std::int64_t count, double slope, double level, std::uint64_t seed) {
  const torch::Tensor areas = 10 + test::uniform({count}, seed).to(torch::kDouble);
  const torch::Tensor noise = 0.1 * test::gaussian({count, 2}, seed + 1).to(torch::kDouble);
  return {level + torch::stack({areas * slope, torch::zeros_like(areas)}, 1) + noise, areas};
}

TEST(AreaTrend, IsTakenOutOfTheChannelsThatHaveOne) {
  const AreaTrend trend({images(200, 2, 0, 1)});
  EXPECT_NEAR(trend.slopes()[0].item<double>(), 2, 0.1);
  EXPECT_NEAR(trend.slopes()[1].item<double>(), 0, 0.1);
  const torch::Tensor large = torch::tensor({22.0, 0.0}, torch::kDouble);
  const torch::Tensor small = torch::tensor({20.0, 0.0}, torch::kDouble);
  EXPECT_LT(test::difference(trend.without(large, 11), trend.without(small, 10)), 0.15);
}

TEST(AreaTrend, SetsOfAnotherLevelShareTheirSlopeOnly) {
  AreaTrend::Set low = images(100, 1, 0, 1), high = images(100, 1, 50, 2);
  high.log_areas += 3;
  high.peaks.select(1, 0) += 3;
  const AreaTrend trend({low, high});
  EXPECT_NEAR(trend.slopes()[0].item<double>(), 1, 0.1);
  EXPECT_NEAR(trend.slopes()[1].item<double>(), 0, 0.1);
}

TEST(AreaTrend, WhatMayBeChanceIsFlattened) {
  const AreaTrend::Set chance = images(30, 0, 0, 3);
  const torch::Tensor x = chance.log_areas - chance.log_areas.mean();
  const torch::Tensor raw = x.matmul(chance.peaks) / x.square().sum();
  const torch::Tensor slopes = AreaTrend({chance}).slopes();
  EXPECT_TRUE((slopes.abs() <= 0.9 * raw.abs()).all().item<bool>());
}

TEST(AreaTrend, FewImagesOrEqualAreasShowNone) {
  const torch::Tensor peaks = torch::tensor({1.0, 2.0}, torch::kDouble);
  EXPECT_TRUE(torch::equal(AreaTrend({images(19, 5, 0, 1)}).without(peaks, 99), peaks));
  AreaTrend::Set equal = images(40, 5, 0, 1);
  equal.log_areas.fill_(3);
  EXPECT_TRUE(torch::equal(AreaTrend({equal}).without(peaks, 99), peaks));
  EXPECT_TRUE(torch::equal(AreaTrend().without(peaks, 99), peaks));
}

}  // namespace
}  // namespace convae::test_area_trend
