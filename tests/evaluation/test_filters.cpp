#include "convae/evaluation/filters.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace convae::test_filters {
namespace {

/// Two colours, side by side: (2, 3, 33, 40).
torch::Tensor halves() {
  torch::Tensor images = torch::empty({2, 3, 33, 40});
  images.narrow(3, 0, 20) = torch::tensor({0.8, 0.2, 0.4}).view({3, 1, 1}).to(torch::kFloat);
  images.narrow(3, 20, 20) = torch::tensor({0.1, 0.5, 0.7}).view({3, 1, 1}).to(torch::kFloat);
  return images;
}

torch::Tensor noisy(const torch::Tensor& images) {
  torch::manual_seed(3);
  return images + 0.08 * torch::randn_like(images);
}

double mse(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).square().mean().item<double>();
}

TEST(GaussianBlurFilter, IsTheConvolutionOfTorch) {
  namespace F = torch::nn::functional;
  const torch::Tensor images = noisy(halves());
  const std::int64_t reach = 8;
  const torch::Tensor at = torch::arange(-reach, reach + 1).to(torch::kFloat);
  torch::Tensor kernel = torch::exp(-at.square() / (2 * 1.5 * 1.5));
  kernel /= kernel.sum();
  const torch::Tensor padded =
      F::pad(images, F::PadFuncOptions({reach, reach, reach, reach}).mode(torch::kReflect));
  torch::Tensor expected = padded.flatten(0, 1).unsqueeze(1);
  expected = torch::conv2d(expected, kernel.view({1, 1, -1, 1}));
  expected = torch::conv2d(expected, kernel.view({1, 1, 1, -1})).view_as(images).clamp(0, 1);
  EXPECT_LT((gaussian_blur(images, 1.5) - expected).abs().max().item<double>(), 1e-3);
}

class MeansTest : public testing::Test {
protected:
  void SetUp() override {
    if (!kHasNonLocalMeans) GTEST_SKIP() << "built without OpenCV's module photo";
  }
};

TEST_F(MeansTest, TakeNoiseOutAndKeepEdgesAndColours) {
  for (const std::int64_t channels : {1, 3}) {
    const torch::Tensor clean = halves().narrow(1, 0, channels);
    const torch::Tensor images = noisy(clean);
    const torch::Tensor found = non_local_means(images, 20);
    ASSERT_EQ(found.sizes(), images.sizes());
    EXPECT_LT(mse(found, clean), mse(images, clean) / 4) << channels;
    EXPECT_LT(mse(found, clean), mse(gaussian_blur(images, 1.5), clean)) << channels;
  }
}

TEST_F(MeansTest, LeaveTheImageAtStrengthNought) {
  const torch::Tensor images = halves().narrow(1, 0, 1);
  EXPECT_LT((non_local_means(images, 1) - images).abs().max().item<double>(), 0.51 / 255);
}

TEST(BestStrength, IsTheOneOfTheSmallestErrorOnTheMiddles) {
  torch::Tensor image = torch::zeros({1, 1, 200, 130});
  image.narrow(2, 36, 128).narrow(3, 1, 128).fill_(0.5);
  Trial trial{image, image};
  trial.keep_middle();
  EXPECT_TRUE(torch::equal(trial.image, torch::full({1, 1, 128, 128}, 0.5)));
  EXPECT_EQ(trial.image.storage().nbytes(), trial.image.nbytes()) << "the rest is not kept";
  const Filter add = [](const torch::Tensor& images, double strength) { return images + strength; };
  const std::vector<Trial> trials = {{trial.image + 0.4, trial.image}, {trial.image, trial.image}};
  EXPECT_EQ(best_strength(add, std::vector{0.0, 0.1, 0.21, 0.4}, trials, {}), 0.21);
  Callbacks stopping;
  stopping.should_stop = [] { return true; };
  EXPECT_THROW(best_strength(add, std::vector{0.0}, trials, stopping), Interrupted);
}

TEST_F(MeansTest, TakeEverySize) {
  for (const auto& [h, w] : std::vector<std::pair<int, int>>{{1, 1}, {1, 30}, {5, 4}}) {
    for (const std::int64_t c : {1, 3}) {
      const torch::Tensor images = torch::full({1, c, h, w}, 0.5);
      EXPECT_LT((non_local_means(images, 8) - images).abs().max().item<double>(), 2.0 / 255);
      EXPECT_EQ(gaussian_blur(images, 3).sizes(), images.sizes());
    }
  }
}

}  // namespace
}  // namespace convae::test_filters
