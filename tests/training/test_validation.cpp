#include "convae/metrics/image_metrics.h"
#include "convae/tests/training/trainer_fixture.h"
#include "convae/training/validation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace convae::test_training {
namespace {

TEST_F(TrainerTest, EvaluationIsTheMeanOverImagesWhateverTheirSize) {
  Autoencoder net = seeded(model_options());
  Trainer trainer = trainer_of(train_options(2), net);
  train(trainer);
  net->train();
  const Quality quality =
      validate(net, images_, measured_with(LossKind::l1, 4), torch::kCPU, /*workers=*/2);
  EXPECT_TRUE(net->is_training());  // as it was
  net->eval();
  torch::NoGradGuard no_grad;
  double l1 = 0, mse = 0, decibels = 0, ssim = 0;
  int large = 0;
  for (int i = 0; i < kImages; ++i) {
    const torch::Tensor x = images_.load(i)->unsqueeze(0).to(torch::kFloat) / 255;
    const torch::Tensor y = net->forward(x);
    const double error = torch::mse_loss(y, x).item<double>();
    l1 += torch::l1_loss(y, x).item<double>();
    mse += error;
    decibels += -10 * std::log10(error);
    if (std::min(x.size(2), x.size(3)) >= 11) {
      ssim += image_ssim(y, x).item<double>();
      ++large;
    }
  }
  EXPECT_EQ(quality.images.size(), kImages);
  EXPECT_NEAR(quality.loss, l1 / kImages, 1e-6);
  EXPECT_NEAR(quality.mse, mse / kImages, 1e-6);
  EXPECT_NEAR(quality.psnr, decibels / kImages, 1e-4);
  ASSERT_LT(large, kImages);
  EXPECT_NEAR(quality.ssim, ssim / large, 1e-5);
}

TEST_F(TrainerTest, EvaluationOfNoImageHasNoValues) {
  ImageDataset images({}, {});
  Autoencoder net = seeded(model_options());
  const Quality quality = validate(net, images, measured_with(LossKind::mse, 4), torch::kCPU, 0);
  EXPECT_TRUE(quality.images.empty());
  EXPECT_TRUE(std::isnan(quality.loss));
  EXPECT_TRUE(std::isnan(quality.psnr));
}

TEST_F(TrainerTest, AnImageThatDivergesCountsAsTheWorstAndNotAsNone) {
  write_image(folder_ / "half/black.png", torch::zeros({3, 16, 16}, torch::kUInt8));
  write_image(folder_ / "half/white.png", torch::full({3, 16, 16}, 255, torch::kUInt8));
  ImageDataset images(entries_of(folder_ / "half"), {});
  Autoencoder net = seeded(model_options(Norm::none));
  {
    torch::NoGradGuard no_grad;
    torch::Tensor weight = net->encoder->parameters()[0];
    weight.copy_(weight.sign() * 3e38);  // overflows for all but black
  }
  const Quality quality = validate(net, images, measured_with(LossKind::mse, 4), torch::kCPU, 0);
  ASSERT_EQ(quality.images.size(), 2U);
  EXPECT_TRUE(std::isfinite(quality.images[0].mse));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(quality.mse, kInfinity);
  EXPECT_EQ(quality.psnr, -kInfinity);
  EXPECT_EQ(quality.ssim, -kInfinity);
  EXPECT_EQ(quality.loss, kInfinity);
}

TEST(ToFloat, DividesByTheRangeOfTheType) {
  const torch::Tensor bytes = torch::tensor({0, 51, 255}).to(torch::kUInt8).view({1, 1, 1, 3});
  EXPECT_LE(difference(to_float(bytes, torch::kCPU).flatten(), torch::tensor({0.0, 0.2, 1.0})),
            1e-7);
  const torch::Tensor wide = torch::tensor({0, 13107, 65535}).to(torch::kUInt16).view({1, 1, 1, 3});
  EXPECT_LE(difference(to_float(wide, torch::kCPU).flatten(), torch::tensor({0.0, 0.2, 1.0})),
            1e-7);
  EXPECT_EQ(bytes.flatten()[2].item<int>(), 255);  // the input stays what it is
}

}  // namespace
}  // namespace convae::test_training
