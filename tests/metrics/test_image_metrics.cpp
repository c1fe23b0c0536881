#include "convae/metrics/image_metrics.h"
#include "convae/tests/support.h"
#include "convae/training/losses.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

namespace convae::test_image_metrics {
namespace {

using test::uniform;

double at(const torch::Tensor& x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  return x[n][c][h][w].item<double>();
}

/// The definition, pixel by pixel, in double.
double direct_mse(const torch::Tensor& x, const torch::Tensor& y, std::int64_t n) {
  double sum = 0;
  for (std::int64_t c = 0; c < x.size(1); ++c) {
    for (std::int64_t h = 0; h < x.size(2); ++h) {
      for (std::int64_t w = 0; w < x.size(3); ++w) {
        sum += std::pow(at(x, n, c, h, w) - at(y, n, c, h, w), 2);
      }
    }
  }
  return sum / static_cast<double>(x.size(1) * x.size(2) * x.size(3));
}

/// Wang et al. 2004, equation 13, with the weighted sums of equations 14 to 16 written out over
/// the two-dimensional window.
double direct_ssim(const torch::Tensor& image_x, const torch::Tensor& image_y, std::int64_t n) {
  const auto x = image_x.to(torch::kDouble).contiguous();
  const auto y = image_y.to(torch::kDouble).contiguous();
  const auto a = x.accessor<double, 4>();
  const auto b = y.accessor<double, 4>();
  double window[11][11];
  double total = 0;
  for (int i = 0; i < 11; ++i) {
    for (int j = 0; j < 11; ++j) {
      window[i][j] = std::exp(-((i - 5) * (i - 5) + (j - 5) * (j - 5)) / (2 * 1.5 * 1.5));
      total += window[i][j];
    }
  }
  double sum = 0;
  int count = 0;
  for (std::int64_t c = 0; c < x.size(1); ++c) {
    for (std::int64_t top = 0; top + 11 <= x.size(2); ++top) {
      for (std::int64_t left = 0; left + 11 <= x.size(3); ++left) {
        const auto mean = [&](auto&& f) {
          double value = 0;
          for (int i = 0; i < 11; ++i) {
            for (int j = 0; j < 11; ++j) {
              value +=
                  window[i][j] / total * f(a[n][c][top + i][left + j], b[n][c][top + i][left + j]);
            }
          }
          return value;
        };
        const double mx = mean([](double p, double) { return p; });
        const double my = mean([](double, double q) { return q; });
        const double vx = mean([&](double p, double) { return (p - mx) * (p - mx); });
        const double vy = mean([&](double, double q) { return (q - my) * (q - my); });
        const double cov = mean([&](double p, double q) { return (p - mx) * (q - my); });
        sum += (2 * mx * my + 1e-4) * (2 * cov + 9e-4) /
               ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4));
        ++count;
      }
    }
  }
  return sum / count;
}

TEST(ImageMse, EqualsTheSumOverPixelsForEachImage) {
  const torch::Tensor x = uniform({3, 3, 9, 7}, 1);
  const torch::Tensor y = uniform({3, 3, 9, 7}, 2);
  const torch::Tensor mse = image_mse(x, y);
  ASSERT_EQ(mse.sizes(), (std::vector<std::int64_t>{3}));
  ASSERT_EQ(mse.scalar_type(), torch::kDouble);
  for (int n = 0; n < 3; ++n) EXPECT_NEAR(mse[n].item<double>(), direct_mse(x, y, n), 1e-7);
}

TEST(ImageMse, IsZeroForEqualImages) {
  const torch::Tensor x = uniform({2, 1, 5, 5}, 1);
  EXPECT_EQ(image_mse(x, x).abs().max().item<double>(), 0);
}

TEST(Psnr, IsTenTimesTheLogarithmOfTheError) {
  EXPECT_DOUBLE_EQ(psnr(1), 0);
  EXPECT_NEAR(psnr(0.01), 20, 1e-12);
  EXPECT_NEAR(psnr(0.5), 3.010299956639812, 1e-12);
  EXPECT_NEAR(psnr(4), -6.020599913279624, 1e-12);
}

TEST(Psnr, IsCappedAtHundredDecibels) {
  EXPECT_EQ(psnr(0), 100);
  EXPECT_EQ(psnr(1e-300), 100);
  EXPECT_EQ(psnr(0.99e-10), 100);
  EXPECT_LT(psnr(1.01e-10), 100);
}

TEST(Psnr, OfNoValueIsNoValue) {
  EXPECT_TRUE(std::isnan(psnr(std::numeric_limits<double>::quiet_NaN())));
}

TEST(ImageSsim, EqualsTheDefinitionWrittenOut) {
  const torch::Tensor y = uniform({2, 3, 15, 13}, 1);
  const torch::Tensor slight = (y + 0.05 * test::gaussian(y.sizes(), 2)).clamp(0, 1);
  for (const torch::Tensor& x : {uniform(y.sizes(), 3), slight, 1 - y, y * 0.3}) {
    for (const auto layout : {torch::MemoryFormat::Contiguous, torch::MemoryFormat::ChannelsLast}) {
      const torch::Tensor ssim = image_ssim(x.contiguous(layout), y.contiguous(layout));
      ASSERT_EQ(ssim.sizes(), (std::vector<std::int64_t>{2}));
      ASSERT_EQ(ssim.scalar_type(), torch::kDouble);
      for (int n = 0; n < 2; ++n) EXPECT_NEAR(ssim[n].item<double>(), direct_ssim(x, y, n), 2e-5);
    }
  }
}

/// Doubles take another way, through LibTorch's operations.
TEST(FusedSsim, EqualsTheOperationsInDouble) {
  for (const auto& [c, h, w] : {std::tuple{3, 60, 47}, {1, 27, 131}, {3, 11, 12}, {1, 11, 11}}) {
    const torch::Tensor y = uniform({3, c, h, w}, 1);
    const torch::Tensor slight = (y + 0.05 * test::gaussian(y.sizes(), 2)).clamp(0, 1);
    for (const torch::Tensor& x : {uniform(y.sizes(), 3), slight}) {
      const torch::Tensor ssim = image_ssim(x, y);
      ASSERT_EQ(ssim.scalar_type(), torch::kDouble);
      const torch::Tensor expected = image_ssim(x.to(torch::kDouble), y.to(torch::kDouble));
      EXPECT_LT(test::difference(ssim, expected), 1e-5) << h << " x " << w;
    }
  }
}

TEST(FusedSsim, OfAnImageWithNanIsNan) {
  torch::Tensor x = uniform({2, 3, 40, 40}, 1);
  const torch::Tensor y = x.clone();
  x[1][2][39][39] = std::numeric_limits<float>::quiet_NaN();
  const torch::Tensor ssim = image_ssim(x, y);
  EXPECT_NEAR(ssim[0].item<double>(), 1, 1e-6);
  EXPECT_TRUE(std::isnan(ssim[1].item<double>()));
}

TEST(ImageSsim, IsOneForEqualImagesOfTheSmallestSize) {
  const torch::Tensor x = uniform({1, 3, 11, 11}, 1);
  EXPECT_NEAR(image_ssim(x, x).item<double>(), 1, 1e-6);
}

TEST(ImageSsim, OfConstantImagesComparesTheirLuminance) {
  for (const double a : {0.0, 0.2, 0.9, 1.0}) {
    for (const double b : {0.0, 0.2, 0.9, 1.0}) {
      const double expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4);
      const torch::Tensor x = torch::full({1, 1, 20, 20}, a, torch::kFloat);
      const torch::Tensor y = torch::full({1, 1, 20, 20}, b, torch::kFloat);
      EXPECT_NEAR(image_ssim(x, y).item<double>(), expected, 2e-4) << a << " and " << b;
    }
  }
}

TEST(ImageSsim, HasNoValueWhereASideIsBelowEleven) {
  for (const auto& [h, w] : {std::pair{10, 30}, {30, 10}, {1, 1}}) {
    const torch::Tensor x = uniform({2, 3, h, w}, 1);
    const torch::Tensor ssim = image_ssim(x, x);
    ASSERT_EQ(ssim.numel(), 2);
    EXPECT_TRUE(torch::isnan(ssim).all().item<bool>());
  }
}

TEST(ImageMean, CountsEveryImageByItsWeightAndLeavesOutThoseWithoutAValue) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  ImageMean mean;
  mean.add(kNone);
  EXPECT_TRUE(std::isnan(mean.mean()));
  for (const double value : {1.0, 2.0, kNone, 6.0}) mean.add(value);
  EXPECT_DOUBLE_EQ(mean.mean(), 3);
  mean.add(5, /*weight=*/3);
  EXPECT_DOUBLE_EQ(mean.mean(), 4);
}

TEST(ImageLosses, EqualTorchForEachImageAlone) {
  const torch::Tensor x = uniform({3, 3, 9, 7}, 1);
  const torch::Tensor y = uniform({3, 3, 9, 7}, 2);
  const torch::Tensor mse = image_losses(x, y, {{LossKind::mse}}, Output::sigmoid);
  const torch::Tensor l1 = image_losses(x, y, {{LossKind::l1}}, Output::sigmoid);
  for (int n = 0; n < 3; ++n) {
    EXPECT_NEAR(mse[n].item<double>(), torch::mse_loss(x[n], y[n]).item<double>(), 1e-6);
    EXPECT_NEAR(l1[n].item<double>(), torch::l1_loss(x[n], y[n]).item<double>(), 1e-6);
  }
}

}  // namespace
}  // namespace convae::test_image_metrics
