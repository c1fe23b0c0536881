#include "convae/data/image_io.h"
#include "convae/data/pictures.h"
#include "convae/training/corruption.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>
#include <map>

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

bool starts_with_noise(const std::string& effects) {
  return effects.starts_with("noise") || effects.starts_with("shot");
}

bool is_random(const std::string& effects) {
  const bool draws_nothing =
      effects.starts_with("blur") || effects.starts_with("jpeg") || effects.starts_with("shrink");
  return !draws_nothing || effects.find('-') != std::string::npos;
}

TEST_P(EveryCorruption, ChangesACopyAndOnlyNoiseLeavesTheRange) {
  const torch::Tensor images = pictures();
  const torch::Tensor before = images.clone();
  const torch::Tensor result = corrupted(images, GetParam());
  EXPECT_TRUE(torch::equal(images, before));
  ASSERT_EQ(result.sizes(), images.sizes());
  EXPECT_TRUE(result.is_contiguous(torch::MemoryFormat::ChannelsLast));
  if (!starts_with_noise(GetParam())) {
    EXPECT_GE(result.min().item<float>(), 0);
    EXPECT_LE(result.max().item<float>(), 1);
  }
  for (std::int64_t i = 0; i < images.size(0); ++i)
    EXPECT_FALSE(torch::equal(result[i], images[i]));
}

TEST_P(EveryCorruption, DependsOnSeedEpochAndIndexAlone) {
  if (!is_random(GetParam())) GTEST_SKIP() << "nothing about it is random";
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
                         testing::Values("noise:0.1", "noise:0.02-0.2", "shot:50", "shot:20-100+2",
                                         "blur:1.5", "blur:0.5-2", "jpeg:30", "jpeg:20-60",
                                         "shrink:3", "cutout:0.3", "grid:8", "blemish:0.5",
                                         "noise:0.05,cutout", "defects:1"),
                         [](const auto& info) {
                           std::string name;
                           for (const char c : std::string(info.param)) {
                             name += std::isalnum(c) != 0 ? c : '_';
                           }
                           return name;
                         });

/// Draws the same numbers whether or not the amount could have been a range.
TEST(CorruptionNoise, ARangeOfOneValueIsThatValue) {
  for (const auto& [range, value] : std::map<std::string, std::string>{
           {"noise:0.1-0.1", "noise:0.1"}, {"shot:50-50+3", "shot:50+3"}, {"jpeg:9-9", "jpeg:9"}}) {
    EXPECT_TRUE(torch::equal(corrupted(pictures(), range), corrupted(pictures(), value))) << range;
  }
}

/// Each image's amount, sorted, beside the quantiles of a uniform distribution over the range.
void expect_uniform(torch::Tensor amounts, double low, double high) {
  amounts = std::get<0>(amounts.to(torch::kDouble).sort());
  const std::int64_t n = amounts.numel();
  const torch::Tensor shares = (torch::arange(n, torch::kDouble) + 0.5) / n;
  EXPECT_LT(((amounts - low) / (high - low) - shares).abs().max().item<double>(),
            2.7 / std::sqrt(n));
}

TEST(CorruptionNoise, RangeIsDrawnFromByEachImageAlike) {
  const torch::Tensor noise =
      corrupted(torch::full({1000, 1, 64, 64}, 0.5), "noise:0.02-0.2") - 0.5;
  expect_uniform(noise.flatten(1).std(1), 0.02, 0.2);
  // x / variance = photons at white, for one value x.
  const torch::Tensor shot = corrupted(torch::full({1000, 1, 64, 64}, 0.5), "shot:50-500");
  expect_uniform(0.5 / shot.flatten(1).var(1), 50, 500);
}

/// Clipped noise would have a mean above 0 in the dark.
TEST(CorruptionNoise, IsNotClipped) {
  const torch::Tensor dark = corrupted(torch::zeros({2, 3, 100, 100}), "noise:0.1");
  EXPECT_NEAR(dark.mean().item<double>(), 0, 5 * 0.1 / std::sqrt(60'000));
  EXPECT_NEAR((dark < 0).to(torch::kDouble).mean().item<double>(), 0.5, 0.011);
  const torch::Tensor white = corrupted(torch::ones({2, 3, 100, 100}), "shot:50");
  EXPECT_NEAR(white.mean().item<double>(), 1, 5 / std::sqrt(50.0 * 60'000));
  EXPECT_GT(white.max().item<double>(), 1.3);
}

/// Shares of counts up to every k beside the distribution function of Poisson's, mean and variance;
/// both ways to draw, and where they meet.
TEST(CorruptionShot, CountsPhotonsAsPoissonSays) {
  for (const double mean : {0.2, 3.0, 9.9, 10.1, 40.0, 4000.0}) {
    const double value = 0.125, photons = std::max(1.0, mean / value);
    const torch::Tensor images = torch::full({4, 3, 150, 150}, mean / photons);
    const torch::Tensor exact =
        corrupted(images, "shot:" + std::to_string(photons)).to(torch::kDouble) * photons;
    const torch::Tensor counts = exact.round().flatten();
    EXPECT_LT((exact.flatten() - counts).abs().max().item<double>(), 1e-3) << mean;
    const auto n = static_cast<double>(counts.numel());
    EXPECT_NEAR(counts.mean().item<double>(), mean, 5 * std::sqrt(mean / n));
    EXPECT_NEAR(counts.var().item<double>(), mean,
                5 * std::sqrt((mean + 2 * mean * mean) / n) + 1e-4 * mean);
    const std::int64_t most = counts.max().item<std::int64_t>();
    const torch::Tensor k = torch::arange(most + 1, torch::kDouble);
    const torch::Tensor shares =
        torch::bincount(counts.to(torch::kLong), {}, most + 1).cumsum(0).to(torch::kDouble) / n;
    const torch::Tensor expected = torch::special::gammaincc(k + 1, torch::full_like(k, mean));
    EXPECT_LT((shares - expected).abs().max().item<double>(), 2.7 / std::sqrt(n)) << mean;
    const torch::Tensor z = (counts - mean) / std::sqrt(mean);
    const torch::Tensor product = z.narrow(0, 0, z.numel() - 1) * z.narrow(0, 1, z.numel() - 1);
    EXPECT_NEAR(product.mean().item<double>(), 0, 5 / std::sqrt(n)) << mean;
  }
  const torch::Tensor black = torch::zeros({1, 1, 9, 9});
  EXPECT_TRUE(torch::equal(corrupted(black, "shot:50"), black));
}

TEST(CorruptionShot, ReadNoiseIsInPhotons) {
  const torch::Tensor read = corrupted(torch::full({4, 3, 150, 150}, 0.5), "shot:100+5");
  const double expected = (50 + 25) / 1e4;
  EXPECT_NEAR(read.to(torch::kDouble).var().item<double>(), expected,
              5 * expected * std::sqrt(2.0 / 270'000));
}

TEST(CorruptionJpeg, DrawsEveryQualityOfTheRange) {
  const torch::Tensor images = pictures(300, 16, 24);
  const torch::Tensor shown = corrupted(images, "jpeg:20-22");
  std::map<int, int> found;
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    for (int quality = 19; quality <= 23; ++quality) {
      const torch::Tensor file =
          decode_image(encode_small_jpeg(to_uint8(images[i]), quality), /*channels=*/3);
      if (torch::allclose(shown[i], file.to(torch::kFloat) / 255, 0, 1e-6)) ++found[quality];
    }
  }
  EXPECT_EQ(found.size(), 3U);
  for (const int quality : {20, 21, 22}) EXPECT_NEAR(found[quality], 100, 40) << quality;
}

TEST(CorruptionJpeg, TakesImagesThatAreWiderThanAFile) {
  const torch::Tensor image = pictures(1, 16, 70'000);
  const torch::Tensor shown = corrupted(image, "jpeg:30");
  const torch::Tensor rest = image.narrow(3, 65'472, 70'000 - 65'472).contiguous();
  const torch::Tensor file = decode_image(encode_small_jpeg(to_uint8(rest[0]), 30), /*channels=*/3);
  EXPECT_TRUE(torch::allclose(shown[0].narrow(2, 65'472, rest.size(3)),
                              file.to(torch::kFloat) / 255, 0, 1e-6));
  EXPECT_LT((shown - image).abs().mean().item<double>(), 0.3);
}

/// (to, from): how much of an output's share of the axis each input covers.
torch::Tensor area_filter(std::int64_t from, std::int64_t to) {
  const double step = static_cast<double>(from) / static_cast<double>(to);
  const torch::Tensor out = torch::arange(to, torch::kDouble).unsqueeze(1);
  const torch::Tensor in = torch::arange(from, torch::kDouble).unsqueeze(0);
  const torch::Tensor begin = torch::maximum(out * step, in);
  return (torch::minimum((out + 1) * step, in + 1) - begin).clamp_min(0) / step;
}

TEST(CorruptionShrink, IsAnAreaFilterAndBicubicAtEverySize) {
  namespace F = torch::nn::functional;
  torch::manual_seed(1);
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{{40, 50}, {41, 53}, {7, 5}, {1, 30}}) {
    for (const std::int64_t factor : {2, 3, 4}) {
      const torch::Tensor images = torch::rand({2, 3, h, w});
      const auto smaller = [&](double side) {
        return std::max<std::int64_t>(1, std::lround(side / static_cast<double>(factor)));
      };
      const torch::Tensor small = area_filter(h, smaller(h))
                                      .matmul(images.to(torch::kDouble))
                                      .matmul(area_filter(w, smaller(w)).t());
      const torch::Tensor large = F::interpolate(small, F::InterpolateFuncOptions()
                                                            .size(std::vector<std::int64_t>{h, w})
                                                            .mode(torch::kBicubic)
                                                            .align_corners(false))
                                      .clamp(0, 1);
      const torch::Tensor found = corrupted(images, "shrink:" + std::to_string(factor));
      EXPECT_LT((found - large).abs().max().item<double>(), 1e-4)
          << h << "x" << w << " by " << factor;
    }
  }
}

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
  EXPECT_TRUE(torch::equal(corrupted(images, "cutout:0"), images));
  const torch::Tensor result = corrupted(images, "cutout:0.25");
  torch::Tensor covered = torch::zeros({20, 30});
  for (std::int64_t i = 0; i < 200; ++i) {
    const torch::Tensor hole = result[i][0] == 0.5;
    EXPECT_EQ(hole.sum().item<int>(), 5 * 5);
    EXPECT_EQ(hole.any(0).sum().item<int>(), 5);
    covered += hole;
    CounterRandom random(/*seed=*/7, /*epoch=*/1, i, Purpose::corruption);
    const std::int64_t top = random.below(16), left = random.below(26);
    EXPECT_TRUE(hole[top][left].item<bool>() && hole[top + 4][left + 4].item<bool>())
        << "the row is drawn first, whatever the compiler";
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
