#include "convae/data/loader.h"
#include "convae/tests/training/trainer_fixture.h"

#include <ATen/autocast_mode.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace convae::test_training {
namespace {

/// Mean over images of the gradient of each image's own loss, from torch's losses.
Tensors mean_of_image_gradients(Autoencoder& net, ImageDataset& images, const Step& step,
                                LossKind loss) {
  Tensors sums;
  for (const MicroBatch& batch : step) {
    for (const std::int64_t index : batch.indices) {
      net->zero_grad();
      const torch::Tensor x = images.load(index)->unsqueeze(0).to(torch::kFloat) / 255;
      const torch::Tensor y = net->forward(x);
      (loss == LossKind::mse ? torch::mse_loss(y, x) : torch::l1_loss(y, x)).backward();
      for (const auto& item : net->named_parameters()) {
        torch::Tensor& sum = sums[item.key()];
        sum = sum.defined() ? sum + item.value().grad() : item.value().grad().clone();
      }
    }
  }
  for (auto& [name, sum] : sums) sum /= static_cast<double>(image_count(step));
  return sums;
}

TEST_F(TrainerTest, EachImageOfAStepCountsTheSameWhateverItsSize) {
  for (const LossKind loss : {LossKind::mse, LossKind::l1}) {
    for (const Norm norm : {Norm::none, Norm::group}) {
      Autoencoder net = seeded(model_options(norm));
      TrainOptions options = train_options(1, /*batch_size=*/kImages);
      options.loss = {{loss}};
      Trainer trainer = trainer_of(options, net);
      Loader loader(images_, plan_training_epoch(images_, kImages, 0, 1), {}, 0);
      const Step step = loader.next().value();
      ASSERT_EQ(step.size(), 4U);  // sizes
      const Tensors expected = mean_of_image_gradients(net, images_, step, loss);
      trainer.train_step(step, /*lr=*/0);
      double largest = 0;
      for (const auto& item : net->named_parameters()) {
        EXPECT_LE(difference(item.value().grad(), expected.at(item.key())), 1e-6) << item.key();
        largest = std::max(largest, expected.at(item.key()).abs().max().item<double>());
      }
      EXPECT_GT(largest, 1e-3);
    }
  }
}

TEST_F(TrainerTest, ABatchOfOneSizeIsSplitLikeAnyOther) {
  ImageDataset images = uniform_dataset(4);
  const auto trained = [&](const std::vector<Step>& plan, std::int64_t pixels_together) {
    Autoencoder net = seeded(model_options(Norm::batch));
    Trainer trainer(net, images, train_options(1), torch::kCPU);
    trainer.limit_pixels_together(pixels_together);
    Loader loader(images, plan, {}, 0);
    const double loss = trainer.train_step(loader.next().value(), /*lr=*/0.01).value();
    return std::pair(state_of(net), loss);
  };
  const std::vector<Step> whole = {{MicroBatch{{0, 1, 2, 3}, {}}}};
  const std::vector<Step> halves = {{MicroBatch{{0, 1}, {}}, MicroBatch{{2, 3}, {}}}};
  constexpr std::int64_t kTwo = 2 * 12 * 12;
  const auto [parts, loss_of_parts] = trained(whole, kTwo + 100);
  expect_identical(parts, trained(halves, kTwo).first);
  EXPECT_GT(std::abs(trained(whole, 2 * kTwo).second - loss_of_parts), 1e-4)
      << "batch normalisation sees what goes together";
}

TEST_F(TrainerTest, LatentNoiseIsAnImagesOwnWhateverItsBatch) {
  ImageDataset images = uniform_dataset(4);
  ModelOptions model = model_options(Norm::none);
  model.latent_channels = 2;
  model.variational = true;
  const auto gradients = [&](const std::vector<Step>& plan, std::int64_t steps_done) {
    Autoencoder net = seeded(model);
    Trainer trainer(net, images, train_options(1), torch::kCPU);
    trainer.progress().step = steps_done;
    Loader loader(images, plan, {}, 0);
    trainer.train_step(loader.next().value(), /*lr=*/0);
    Tensors all;
    for (const auto& item : net->named_parameters()) all[item.key()] = item.value().grad().clone();
    return all;
  };
  const Tensors whole = gradients({{MicroBatch{{0, 1, 2, 3}, {}}}}, 0);
  const Tensors parts = gradients({{MicroBatch{{3, 1}, {}}, MicroBatch{{2, 0}, {}}}}, 7);
  for (const auto& [name, gradient] : whole) {
    EXPECT_LE(difference(gradient, parts.at(name)), 1e-6) << name;
  }
}

TEST_F(TrainerTest, BFloat16TrainsNearlyAsFloatDoesAndKeepsItsWeightsInFloat) {
  TrainOptions options = train_options(/*epochs=*/6);
  std::vector<double> losses;
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    options.precision = precision;
    Trainer trainer = trainer_of(options);
    while (!trainer.finished()) losses.push_back(train_epoch(trainer));
    for (const auto& parameter : trainer.net()->named_parameters()) {
      EXPECT_EQ(parameter.value().scalar_type(), torch::kFloat) << parameter.key();
    }
    EXPECT_FALSE(at::autocast::is_autocast_enabled(torch::kCPU));
  }
  ASSERT_EQ(losses.size(), 12U);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_NE(losses[i], losses[i + 6]);
    EXPECT_NEAR(losses[i + 6] / losses[i], 1, 0.02) << "epoch " << i + 1;
  }
}

TEST_F(TrainerTest, TrainsTanhModelsOnTheirOwnRange) {
  ImageDataset images = uniform_dataset(4);
  ModelOptions model = model_options(Norm::none);
  model.output = Output::tanh;
  Autoencoder net = seeded(model);
  Trainer trainer(net, images, train_options(1), torch::kCPU);
  Loader loader(images, plan_in_order(images, 4), {}, 0);
  const Step step = loader.next().value();
  const torch::Tensor x = step[0].images.to(torch::kFloat) / 127.5 - 1;
  const double expected = 4 * torch::mse_loss(net->forward(x), x).item<double>();
  EXPECT_NEAR(trainer.train_step(step, 0).value(), expected, 1e-5);
}

TEST_F(TrainerTest, ClipsTheGradientOfTheWholeStep) {
  TrainOptions options = train_options(1, kImages);
  options.clip_grad = 1e-3;
  Trainer trainer = trainer_of(options, seeded(model_options(Norm::none)));
  Loader loader(images_, plan_training_epoch(images_, kImages, 0, 1), {}, 0);
  trainer.train_step(loader.next().value(), 0);
  double sum = 0;
  for (const auto& parameter : trainer.net()->parameters()) {
    sum += parameter.grad().square().sum().item<double>();
  }
  EXPECT_NEAR(std::sqrt(sum), 1e-3, 1e-5);
}

}  // namespace
}  // namespace convae::test_training
