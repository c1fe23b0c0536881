#include "convae/metrics/image_metrics.h"
#include "convae/metrics/measures.h"
#include "convae/tests/support.h"

namespace convae::test_measures {
namespace {

TEST(ImageMeasures, AreThoseOfEachImageInOrder) {
  const torch::Tensor x = test::uniform({5, 3, 24, 30}, 1), y = test::uniform({5, 3, 24, 30}, 2);
  ImageMeasures measures;
  measures.add(x.narrow(0, 0, 2), y.narrow(0, 0, 2));
  ImageMeasures others;
  others.add(x.narrow(0, 2, 3), y.narrow(0, 2, 3));
  measures += others;
  const torch::Tensor mse = image_mse(x, y), ssim = image_ssim(x, y), ms_ssim = image_ms_ssim(x, y);
  for (std::int64_t i = 0; i < 5; ++i) {
    const auto at = static_cast<std::size_t>(i);
    EXPECT_NEAR(measures.values(Measure::mse)[at], mse[i].item<double>(), 1e-9);
    EXPECT_NEAR(measures.values(Measure::psnr)[at], psnr(mse[i].item<double>()), 1e-6);
    EXPECT_NEAR(measures.values(Measure::ssim)[at], ssim[i].item<double>(), 1e-6);
    EXPECT_NEAR(measures.values(Measure::ms_ssim)[at], ms_ssim[i].item<double>(), 1e-6);
  }
  const MeanInterval mean = measures.mean(Measure::mse);
  EXPECT_NEAR(mean.mean, mse.mean().item<double>(), 1e-9);
  EXPECT_LT(mean.interval.low, mean.mean);
  EXPECT_GT(mean.interval.high, mean.mean);
}

TEST(ImageMeasures, OfSmallImagesHaveNoSimilarity) {
  ImageMeasures measures;
  measures.add(test::uniform({2, 1, 10, 30}, 1), test::uniform({2, 1, 10, 30}, 2));
  measures.add(test::uniform({1, 1, 11, 30}, 3), test::uniform({1, 1, 11, 30}, 4));
  EXPECT_TRUE(std::isnan(measures.values(Measure::ssim)[0]));
  EXPECT_TRUE(std::isnan(measures.values(Measure::ms_ssim)[1]));
  EXPECT_EQ(measures.mean(Measure::ssim).mean, measures.values(Measure::ssim)[2]);
  EXPECT_TRUE(std::isnan(measures.mean(Measure::ssim).interval.low));
  EXPECT_EQ(measures.values(Measure::mse).size(), 3U);
}

TEST(MeanDifference, IsPaired) {
  // The images vary a lot, by what both have in common; the difference hardly does.
  std::vector<double> a, b;
  for (int i = 0; i < 100; ++i) {
    a.push_back(i);
    b.push_back(i + 1 + 0.01 * (i % 2));
  }
  const MeanInterval by = mean_difference(a, b);
  EXPECT_NEAR(by.mean, -1.005, 1e-9);
  EXPECT_GT(by.interval.low, -1.01);
  EXPECT_LT(by.interval.high, -1);
}

}  // namespace
}  // namespace convae::test_measures
