#include "convae/metrics/pixel_metrics.h"
#include "convae/metrics/statistics.h"
#include "convae/tests/support.h"

#include <cmath>

namespace convae::test_pixel_metrics {
namespace {

torch::Tensor mask_of(const std::vector<std::string>& rows) {
  const auto height = static_cast<std::int64_t>(rows.size());
  const auto width = static_cast<std::int64_t>(rows[0].size());
  torch::Tensor mask = torch::zeros({height, width}, torch::kBool);
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      mask[y][x] = rows[static_cast<std::size_t>(y)][static_cast<std::size_t>(x)] == '#';
    }
  }
  return mask;
}

/// Values that a class of the metrics never holds two of, so that they are exact.
torch::Tensor whole_numbers(std::int64_t height, std::int64_t width, int most, std::uint64_t seed) {
  return torch::randint(-most, most, {height, width}, test::generator(seed)).to(torch::kFloat);
}

TEST(PixelMetrics, AurocIsThatOfAllPixels) {
  PixelMetrics metrics;
  ScoredImages pixels;
  for (std::uint64_t image = 0; image < 4; ++image) {
    const torch::Tensor map = whole_numbers(7, 9, 20, image);
    const torch::Tensor mask = whole_numbers(7, 9, 3, image + 10) > 1;
    metrics.add(map, mask);
    for (std::int64_t i = 0; i < map.numel(); ++i) {
      pixels.add(map.flatten()[i].item<double>(), mask.flatten()[i].item<bool>());
    }
  }
  EXPECT_NEAR(metrics.auroc(), auroc(pixels), 1e-12);
}

TEST(PixelMetrics, RegionsTouchAlsoAtCorners) {
  PixelMetrics metrics;
  const torch::Tensor mask = mask_of({"##...#", "..#...", "......", "#....."});
  metrics.add(torch::zeros({4, 6}), mask);
  EXPECT_EQ(metrics.regions(), 3);
}

TEST(PixelMetrics, EveryRegionCountsTheSameForPro) {
  // A region of one pixel that is found at once, one of four that is never found before all is.
  const torch::Tensor mask = mask_of({"#.##", "..##", "....", "...."});
  torch::Tensor map = torch::zeros({4, 4});
  map[0][0] = 5;
  PixelMetrics metrics;
  metrics.add(map, mask);
  // Half of the regions at rate 0, all of them only at rate 1, on a straight line.
  EXPECT_NEAR(metrics.pro(1.0), 0.75, 1e-12);
  EXPECT_NEAR(metrics.pro(0.5), 0.625, 1e-12);
}

TEST(PixelMetrics, ProIsOneForAPerfectMapAndHalfTheRateForNone) {
  const torch::Tensor mask = mask_of({"#....", "....#", "....."});
  PixelMetrics perfect, constant;
  perfect.add(mask.to(torch::kFloat), mask);
  constant.add(torch::ones({3, 5}), mask);
  EXPECT_NEAR(perfect.pro(), 1, 1e-12);
  EXPECT_NEAR(constant.pro(), 0.15, 1e-12);
  EXPECT_NEAR(constant.auroc(), 0.5, 1e-12);
}

TEST(PixelMetrics, GoodImagesAreAllOutside) {
  PixelMetrics metrics;
  metrics.add(torch::ones({2, 2}));
  EXPECT_TRUE(std::isnan(metrics.auroc()));
  EXPECT_TRUE(std::isnan(metrics.pro()));
  const torch::Tensor mask = mask_of({"#."});
  metrics.add(torch::tensor({{2.0F, 0.0F}}), mask);
  EXPECT_DOUBLE_EQ(metrics.auroc(), 1);
}

TEST(PixelMetrics, SumsOfSetsAreTheirUnion) {
  PixelMetrics all, first, second;
  for (std::uint64_t image = 0; image < 4; ++image) {
    const torch::Tensor map = test::gaussian({8, 8}, image);
    const torch::Tensor mask = test::uniform({8, 8}, image + 9) > 0.8;
    all.add(map, mask);
    (image < 2 ? first : second).add(map, mask);
  }
  PixelMetrics told;  // in the other order
  told += second.counts();
  told += first.counts();
  first += second.counts();
  for (const PixelMetrics& sum : {first, told}) {
    EXPECT_EQ(sum.auroc(), all.auroc());
    EXPECT_EQ(sum.pro(), all.pro());
    EXPECT_EQ(sum.regions(), all.regions());
  }
}

TEST(PixelMetrics, ClassesKeepTheOrderOfAllFloats) {
  const std::vector<float> rising = {-1e30F, -2, -1, -1e-30F, 0, 1e-30F, 1, 2, 1e30F};
  for (std::size_t high = 1; high < rising.size(); ++high) {
    PixelMetrics metrics;
    metrics.add(torch::tensor({{rising[high - 1], rising[high]}}), mask_of({".#"}));
    EXPECT_DOUBLE_EQ(metrics.auroc(), 1) << rising[high];
  }
  PixelMetrics zeros;
  zeros.add(torch::tensor({{-0.0F, 0.0F}}), mask_of({".#"}));
  EXPECT_DOUBLE_EQ(zeros.auroc(), 0.5);
}

TEST(PixelMetrics, AMaskOfAnotherSizeIsRefused) {
  PixelMetrics metrics;
  const std::string message = test::message_of<std::invalid_argument>([&] {
    metrics.add(torch::zeros({4, 6}), torch::zeros({4, 5}, torch::kBool));
  });
  EXPECT_TRUE(test::contains(message, "4x6") && test::contains(message, "4x5")) << message;
}

}  // namespace
}  // namespace convae::test_pixel_metrics
