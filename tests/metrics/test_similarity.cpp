#include "convae/metrics/image_metrics.h"
#include "convae/metrics/similarity.h"
#include "convae/training/losses.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace convae::test_similarity {
namespace {

struct Pair {
  torch::Tensor x, y;
};

Pair pictures(std::int64_t h, std::int64_t w, torch::ScalarType type = torch::kDouble) {
  torch::manual_seed(4);
  const torch::Tensor y = torch::rand({2, 3, h, w}, type);
  return {(0.7 * y + 0.3 * torch::rand({2, 3, h, w}, type)), y};
}

/// The derivative along a random direction, by differences.
template <typename Function>
void expect_gradient(const Function& f, const torch::Tensor& at) {
  torch::manual_seed(6);
  const torch::Tensor x = at.clone().requires_grad_();
  f(x).sum().backward();
  const torch::Tensor direction = torch::randn_like(at);
  constexpr double kStep = 1e-5;
  const double expected =
      ((f(at + kStep * direction).sum() - f(at - kStep * direction).sum()) / (2 * kStep))
          .template item<double>();
  const double found = (x.grad() * direction).sum().template item<double>();
  EXPECT_NEAR(found, expected, 1e-6 * std::abs(expected) + 1e-9);
}

TEST(Similarity, HasItsGradient) {
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{{11, 11}, {23, 40}, {90, 61}}) {
    const Pair p = pictures(h, w);
    expect_gradient([&](const torch::Tensor& x) { return ssim(x, p.y); }, p.x);
    expect_gradient([&](const torch::Tensor& x) { return ms_ssim(x, p.y); }, p.x);
  }
}

TEST(Similarity, GradientsOfUnlikeImagesAreFinite) {
  const Pair p = pictures(64, 64, torch::kFloat);
  const torch::Tensor x = (1 - p.y).detach().requires_grad_();  // structure is negative everywhere
  const torch::Tensor value = ms_ssim(x, p.y);
  value.sum().backward();
  EXPECT_TRUE((value >= 0).all().item<bool>());
  EXPECT_TRUE(torch::isfinite(x.grad()).all().item<bool>());
}

TEST(Similarity, OfAnImageWithNanIsNan) {
  const Pair p = pictures(64, 64, torch::kFloat);
  p.x[1][2][30][30] = std::numeric_limits<float>::quiet_NaN();
  const torch::Tensor value = image_ms_ssim(p.x, p.y);
  EXPECT_GT(value[0].item<double>(), 0.5);
  EXPECT_TRUE(std::isnan(value[1].item<double>()));
}

TEST(Similarity, OfAnImageWithItselfIsOne) {
  const Pair p = pictures(50, 70);
  for (const torch::Tensor& value : {ssim(p.y, p.y), ms_ssim(p.y, p.y)}) {
    EXPECT_TRUE(torch::allclose(value, torch::ones({2}, torch::kDouble), 1e-9, 1e-9));
  }
}

TEST(MultiScale, HasAsManyScalesAsThereIsRoomFor) {
  EXPECT_EQ(ms_ssim_scales(10), 0);
  EXPECT_EQ(ms_ssim_scales(11), 1);
  EXPECT_EQ(ms_ssim_scales(20), 1);
  EXPECT_EQ(ms_ssim_scales(21), 2);
  EXPECT_EQ(ms_ssim_scales(28), 2);
  EXPECT_EQ(ms_ssim_scales(161), 5);
  EXPECT_EQ(ms_ssim_scales(4000), 5);
  // With one scale it is SSIM, where no channel's is negative.
  const Pair p = pictures(15, 18);
  const torch::Tensor x = 0.3 * p.x + 0.7 * p.y;
  EXPECT_TRUE(torch::allclose(ms_ssim(x, p.y), ssim(x, p.y), 1e-3));  // its power is 1.0001
}

TEST(ImageMeasures, AreTheSameFunctions) {
  const Pair p = pictures(64, 50, torch::kFloat);
  EXPECT_TRUE(torch::allclose(image_ssim(p.x, p.y), ssim(p.x, p.y).to(torch::kDouble), 1e-4, 1e-5));
  EXPECT_TRUE(torch::equal(image_ms_ssim(p.x, p.y), ms_ssim(p.x, p.y).to(torch::kDouble)));
}

TEST(ImageLosses, AreWeightedSumsInTheModelsRange) {
  const Pair p = pictures(24, 30, torch::kFloat);
  const auto of = [&](const char* loss, Output output) {
    const torch::Tensor x = output == Output::tanh ? p.x * 2 - 1 : p.x;
    const torch::Tensor y = output == Output::tanh ? p.y * 2 - 1 : p.y;
    return image_losses(x, y, parse_loss(loss), output);
  };
  for (const Output output : {Output::sigmoid, Output::tanh, Output::linear}) {
    EXPECT_TRUE(
        torch::allclose(of("mse + 0.2*ssim + 3*l1", output),
                        of("mse", output) + 0.2 * of("ssim", output) + 3 * of("l1", output)));
    EXPECT_TRUE(torch::allclose(of("ssim", output), 1 - ssim(p.x, p.y), 1e-4, 1e-5));
    EXPECT_TRUE(torch::allclose(of("ms-ssim", output), 1 - ms_ssim(p.x, p.y), 1e-4, 1e-5));
  }
  EXPECT_TRUE(torch::allclose(of("mse", Output::tanh), 4 * of("mse", Output::sigmoid)));
  const torch::Tensor d = p.x - p.y;
  EXPECT_TRUE(torch::allclose(of("charbonnier", Output::linear),
                              (d.square() + 1e-6).sqrt().mean({1, 2, 3})));
}

}  // namespace
}  // namespace convae::test_similarity
