#include "convae/training/corruption.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>

namespace convae::test_corruption {
namespace {

/// (N, 3, 40, 50) of mid-grey with a lighter half, channels-last.
torch::Tensor pictures(std::int64_t count = 2, std::int64_t height = 40, std::int64_t width = 50) {
  torch::Tensor images = torch::full({count, 3, height, width}, 0.4);
  images.narrow(3, width / 2, width - width / 2).fill_(0.6);
  return images.contiguous(torch::MemoryFormat::ChannelsLast);
}

torch::Tensor corrupted(const torch::Tensor& images, const std::string& effects,
                        std::vector<std::int64_t> indices = {}, std::int64_t epoch = 1,
                        std::uint64_t seed = 7) {
  for (std::int64_t i = std::ssize(indices); i < images.size(0); ++i) indices.push_back(i);
  return corrupt(images, {parse_corruptions(effects), seed, epoch}, indices);
}

TEST(Corruption, NoneGivesTheImagesThemselves) {
  const torch::Tensor images = pictures();
  EXPECT_TRUE(corrupted(images, "").is_same(images));
}

class EveryCorruption : public testing::TestWithParam<const char*> {};

TEST_P(EveryCorruption, ChangesACopyWithinTheRange) {
  const torch::Tensor images = pictures();
  const torch::Tensor before = images.clone();
  const torch::Tensor result = corrupted(images, GetParam());
  EXPECT_TRUE(torch::equal(images, before));
  ASSERT_EQ(result.sizes(), images.sizes());
  EXPECT_TRUE(result.is_contiguous(torch::MemoryFormat::ChannelsLast));
  EXPECT_GE(result.min().item<float>(), 0);
  EXPECT_LE(result.max().item<float>(), 1);
  for (std::int64_t i = 0; i < images.size(0); ++i)
    EXPECT_FALSE(torch::equal(result[i], images[i]));
}

TEST_P(EveryCorruption, DependsOnSeedEpochAndIndexAlone) {
  if (std::string(GetParam()).starts_with("blur")) GTEST_SKIP() << "nothing about it is random";
  const torch::Tensor images = pictures(3);
  const torch::Tensor all = corrupted(images, GetParam(), {4, 9, 2});
  // Another batch, another place in it.
  EXPECT_TRUE(torch::equal(corrupted(images.narrow(0, 1, 1), GetParam(), {9})[0], all[1]));
  EXPECT_FALSE(torch::equal(all[0], all[2]));
  EXPECT_FALSE(torch::equal(corrupted(images, GetParam(), {4, 9, 2}, /*epoch=*/2), all));
  EXPECT_FALSE(torch::equal(corrupted(images, GetParam(), {4, 9, 2}, 1, /*seed=*/8), all));
}

TEST_P(EveryCorruption, TakesEverySize) {
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{{1, 1}, {1, 30}, {30, 1}, {2, 3}}) {
    for (const std::int64_t c : {1, 3}) {
      for (std::int64_t index = 0; index < 20; ++index) {
        const torch::Tensor images = torch::full({1, c, h, w}, 0.3);
        const torch::Tensor result = corrupted(images, GetParam(), {index});
        EXPECT_EQ(result.sizes(), images.sizes());
        EXPECT_TRUE(torch::isfinite(result).all().item<bool>());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryCorruption,
                         testing::Values("noise:0.1", "blur:1.5", "cutout:0.3", "grid:8",
                                         "blemish:0.5", "noise:0.05,cutout", "defects:1"),
                         [](const auto& info) {
                           std::string name;
                           for (const char c : std::string(info.param)) {
                             if (std::isalpha(c) != 0) name += c;
                           }
                           return name;
                         });

/// Shares of a sample below the quantiles of N(0, 1), moments, and no correlation of neighbours.
TEST(CorruptionNoise, IsNormallyDistributed) {
  const torch::Tensor grey = torch::full({4, 3, 300, 300}, 0.5);
  const torch::Tensor z =
      ((corrupted(grey, "noise:0.05") - 0.5) / 0.05).flatten().to(torch::kDouble);
  const auto n = static_cast<double>(z.numel());
  EXPECT_NEAR(z.mean().item<double>(), 0, 5 / std::sqrt(n));
  EXPECT_NEAR(z.square().mean().item<double>(), 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(z.pow(3).mean().item<double>(), 0, 5 * std::sqrt(15 / n));
  EXPECT_NEAR(z.pow(4).mean().item<double>(), 3, 5 * std::sqrt(96 / n));
  const torch::Tensor sorted = std::get<0>(z.sort());
  const torch::Tensor shares = (torch::arange(z.numel(), torch::kDouble) + 0.5) / n;
  const torch::Tensor expected = torch::special::ndtr(sorted);
  // Kolmogorov-Smirnov at 1e-6.
  EXPECT_LT((shares - expected).abs().max().item<double>(), 2.7 / std::sqrt(n));
  for (const std::int64_t lag : {1, 3, 300, 900}) {
    const torch::Tensor product =
        z.narrow(0, 0, z.numel() - lag) * z.narrow(0, lag, z.numel() - lag);
    EXPECT_NEAR(product.mean().item<double>(), 0, 5 / std::sqrt(n)) << lag;
  }
}

TEST(CorruptionBlur, IsAGaussian) {
  torch::Tensor images = torch::zeros({1, 1, 41, 41});
  images[0][0][20][20] = 1;
  const torch::Tensor blurred = corrupted(images, "blur:2")[0][0];
  EXPECT_NEAR(blurred.sum().item<double>(), 1, 1e-4);
  const double at_centre = blurred[20][20].item<double>();
  EXPECT_NEAR(at_centre, 1 / (2 * M_PI * 4), 1e-3);
  EXPECT_NEAR(blurred[20][24].item<double>() / at_centre, std::exp(-16.0 / 8), 0.01);
}

TEST(CorruptionCutout, IsOneGreySquareAnywhere) {
  const torch::Tensor images = torch::ones({200, 1, 20, 30});
  const torch::Tensor result = corrupted(images, "cutout:0.25");
  torch::Tensor covered = torch::zeros({20, 30});
  for (std::int64_t i = 0; i < 200; ++i) {
    const torch::Tensor hole = result[i][0] == 0.5;
    EXPECT_EQ(hole.sum().item<int>(), 5 * 5);
    EXPECT_EQ(hole.any(0).sum().item<int>(), 5);
    covered += hole;
  }
  EXPECT_GT(covered.min().item<float>() + covered.max().item<float>(), 0);
  EXPECT_TRUE((covered.narrow(0, 4, 12).narrow(1, 4, 22) > 0).all().item<bool>());
}

TEST(CorruptionGrid, MasksAQuarter) {
  const torch::Tensor result = corrupted(torch::ones({1, 1, 160, 160}), "grid:16");
  EXPECT_EQ((result == 0.5).sum().item<int>(), 80 * 80);
}

}  // namespace
}  // namespace convae::test_corruption
