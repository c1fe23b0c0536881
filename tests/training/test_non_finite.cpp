#include "convae/data/loader.h"
#include "convae/tests/training/trainer_fixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace convae::test_training {
namespace {

TEST_F(TrainerTest, NanWeightStopsTheFirstStepAndNamesItsImages) {
  ImageDataset images = uniform_dataset(6);
  Autoencoder net = seeded(model_options());
  {
    torch::NoGradGuard no_grad;
    net->named_parameters()["encoder.0.conv.bias"][1] = std::nanf("");
  }
  Trainer trainer(net, images, train_options(1, 6), torch::kCPU);
  const Tensors before = state_of(net);
  const std::string message = message_of<NonFiniteError>([&] { train_epoch(trainer); });
  EXPECT_TRUE(message.starts_with("the loss is not finite at step 1 (images: image_1")) << message;
  EXPECT_TRUE(message.ends_with(" and 2 more); try a lower lr or clip-grad 1")) << message;
  for (const auto& [name, tensor] : state_of(net)) {
    EXPECT_TRUE(torch::equal(tensor.nan_to_num(77), before.at(name).nan_to_num(77))) << name;
  }
}

TEST_F(TrainerTest, HugeRateStopsBeforeTheWeightsOfTheLastGoodStepAreLost) {
  ImageDataset images = uniform_dataset(3);
  ModelOptions model = model_options(Norm::none);
  model.output = Output::linear;
  Autoencoder net = seeded(model);
  TrainOptions options = train_options(1, /*batch_size=*/1);
  options.optimizer = OptimizerKind::sgd;
  options.lr = 1e30;
  Trainer trainer(net, images, options, torch::kCPU);
  Tensors after_step;
  const auto keep = [&] {
    after_step = state_of(net);
    return false;
  };
  const std::string message = message_of<NonFiniteError>([&] { train_epoch(trainer, keep); });
  const auto plan = plan_training_epoch(images, 1, options.seed, /*epoch=*/1);
  EXPECT_EQ(message, "the loss is not finite at step 2 (images: " +
                         images.entry(plan[1][0].indices[0]).file.name +
                         "); try a lower lr or clip-grad 1");
  ASSERT_FALSE(after_step.empty());
  expect_identical(state_of(net), after_step);
  EXPECT_EQ(trainer.progress().step, 1);
}

TEST_F(TrainerTest, OnNanSkipLeavesStepsOutAndCountsThem) {
  ImageDataset images = uniform_dataset(3);
  ModelOptions model = model_options(Norm::none);
  model.output = Output::linear;
  Autoencoder net = seeded(model);
  TrainOptions options = train_options(1, /*batch_size=*/1);
  options.optimizer = OptimizerKind::sgd;
  options.lr = 1e30;  // the first step throws the weights so far out that no later one is finite
  options.on_nan = OnNan::skip;
  Trainer trainer(net, images, options, torch::kCPU);
  std::vector<std::string> skipped;
  Tensors after_first;
  trainer.train_steps([&] {
    if (!trainer.why_skipped().empty()) skipped.push_back(trainer.why_skipped());
    if (trainer.progress().step == 1) after_first = state_of(net);
    return false;
  });
  ASSERT_EQ(skipped.size(), 2U);
  EXPECT_TRUE(skipped[0].starts_with("the loss is not finite at step 2 (images: ")) << skipped[0];
  EXPECT_EQ(trainer.progress().step, 3);
  EXPECT_EQ(trainer.progress().skipped_steps, 2);
  EXPECT_EQ(trainer.progress().epoch_images, 1);
  EXPECT_TRUE(std::isfinite(trainer.epoch_loss()));
  expect_identical(state_of(net), after_first);
}

TEST_F(TrainerTest, EpochWithoutAFiniteStepEndsTheRunEvenWhenSkipping) {
  ImageDataset images = uniform_dataset(2);
  Autoencoder net = seeded(model_options());
  {
    torch::NoGradGuard no_grad;
    net->parameters()[0].fill_(std::numeric_limits<double>::quiet_NaN());
  }
  TrainOptions options = train_options(1, 1);
  options.on_nan = OnNan::skip;
  Trainer trainer(net, images, options, torch::kCPU);
  EXPECT_EQ(message_of<NonFiniteError>([&] { train_epoch(trainer); }),
            "no step of epoch 1 had a finite loss and gradient; try a lower lr or clip-grad 1");
}

TEST_F(TrainerTest, GradientThatOverflowsStopsTheStep) {
  ImageDataset images = uniform_dataset(2);
  ModelOptions model = model_options(Norm::none);
  model.levels = parse_levels("2:k1s1p0");
  model.activation = Activation::relu;
  model.output = Output::linear;
  Autoencoder net(model);
  {
    // Maps near 1e30 and errors near 1e10: the loss is 1e20, the gradient between them 1e40.
    torch::NoGradGuard no_grad;
    auto parameters = net->named_parameters();
    parameters["encoder.0.conv.weight"].fill_(1e30);
    parameters["encoder.0.conv.bias"].zero_();
    parameters["decoder.0.conv.weight"].fill_(1e-30);
    parameters["decoder.0.conv.bias"].fill_(1e10);
  }
  TrainOptions options = train_options(1, 2);
  options.clip_grad = 1;
  Trainer trainer(net, images, options, torch::kCPU);
  const Tensors before = state_of(net);
  const std::string message = message_of<NonFiniteError>([&] { train_epoch(trainer); });
  EXPECT_TRUE(message.starts_with("the gradient is not finite at step 1 (images: ")) << message;
  expect_identical(state_of(net), before);
}

}  // namespace
}  // namespace convae::test_training
