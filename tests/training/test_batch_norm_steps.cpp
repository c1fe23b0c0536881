#include "convae/data/loader.h"
#include "convae/tests/training/trainer_fixture.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace convae::test_training {
namespace {

/// Those after one step whose maps before the first norm have these values, (C, values).
void expect_statistics(const Tensors& after, const torch::Tensor& all) {
  EXPECT_LE(difference(after.at("encoder.0.norm.running_mean"), all.mean(1)), 1e-5);
  EXPECT_LE(difference(after.at("encoder.0.norm.running_var"), all.var(1, true)), 1e-5);
  EXPECT_EQ(after.at("encoder.0.norm.num_batches_tracked").item<std::int64_t>(), 1);
}

TEST_F(TrainerTest, RunningStatisticsAreThoseOfAllImagesOfTheStep) {
  Trainer trainer = trainer_of(train_options(1, kImages));
  Loader loader(images_, plan_training_epoch(images_, kImages, 0, 1), {}, 0);
  const Step step = loader.next().value();
  const Tensors before = state_of(trainer.net());
  trainer.train_step(step, /*lr=*/0);
  std::vector<torch::Tensor> values;
  for (const MicroBatch& batch : step) {
    const torch::Tensor maps =
        torch::conv2d(batch.images.to(torch::kFloat) / 255, before.at("encoder.0.conv.weight"),
                      before.at("encoder.0.conv.bias"), /*stride=*/2, /*padding=*/1);
    values.push_back(maps.transpose(0, 1).flatten(1).to(torch::kDouble));
  }
  expect_statistics(state_of(trainer.net()), torch::cat(values, 1));
}

/// Micro-batches made by hand; a step needs no files.
MicroBatch batch_of(const torch::Tensor& images) {
  return {std::vector<std::int64_t>(static_cast<std::size_t>(images.size(0)), 0), images};
}

torch::Tensor bytes(at::IntArrayRef sizes, std::uint64_t seed) {
  return (test::uniform(sizes, seed) * 255)
      .to(torch::kUInt8)
      .contiguous(torch::MemoryFormat::ChannelsLast);
}

TEST_F(TrainerTest, MicroBatchesAreOneBatchForBatchNorm) {
  const torch::Tensor x = bytes({5, 3, 12, 10}, 1);
  Trainer one = trainer_of(train_options(1)), two = trainer_of(train_options(1));
  const double expected = one.train_step({batch_of(x)}, /*lr=*/0).value();
  const double loss =
      two.train_step({batch_of(x.narrow(0, 0, 2)), batch_of(x.narrow(0, 2, 3))}, /*lr=*/0).value();
  EXPECT_NEAR(loss, expected, 1e-5);
  const auto gradients = one.net()->named_parameters();
  for (const auto& item : two.net()->named_parameters()) {
    EXPECT_LE(difference(item.value().grad(), gradients[item.key()].grad()), 1e-6) << item.key();
  }
}

TEST_F(TrainerTest, AccumulatesGradientsWhereAStepHasTooManyPixels) {
  ModelOptions model;
  model.channels = 1;
  model.levels = parse_levels("2:k4s4p0,2:k4s4p0");
  const torch::Tensor a = bytes({1, 1, 2000, 1600}, 1);
  const torch::Tensor b = bytes({1, 1, 1600, 2001}, 2).div(4, "floor");
  ASSERT_LT(a.numel(), Trainer::kMaxPixelsTogether);
  ASSERT_LT(b.numel(), Trainer::kMaxPixelsTogether);
  ASSERT_GT(a.numel() + b.numel(), Trainer::kMaxPixelsTogether);
  const torch::Tensor c = bytes({1, 1, 64, 64}, 3);  // fits beside b
  const auto unit = [](const torch::Tensor& x) { return x.to(torch::kDouble) / 255; };
  // One pass for a, one for b and c together, each normalised by its own statistics; in double,
  // since LibTorch adds up the last bias's gradient over 3 million pixels.
  Autoencoder alone = seeded(model);
  alone->to(torch::kDouble);
  double expected_loss = 0;
  for (const Maps& group : {Maps{unit(a)}, Maps{unit(b), unit(c)}}) {
    const Maps outputs = alone->forward(group);
    for (std::size_t i = 0; i < group.size(); ++i) {
      const torch::Tensor loss = torch::mse_loss(outputs[i], group[i]);
      (loss / 3).backward({}, /*retain_graph=*/true);  // three images
      expected_loss += loss.item<double>();
    }
  }
  std::vector<torch::Tensor> values;
  for (const torch::Tensor& x : {a, b, c}) {
    torch::NoGradGuard no_grad;
    const auto weights = alone->named_parameters();
    const torch::Tensor maps = torch::conv2d(unit(x), weights["encoder.0.conv.weight"],
                                             weights["encoder.0.conv.bias"], /*stride=*/4);
    values.push_back(maps.transpose(0, 1).flatten(1).to(torch::kDouble));
  }
  Autoencoder net = seeded(model);
  Trainer trainer = trainer_of(train_options(1), net);
  const Step step = {batch_of(a), batch_of(b), batch_of(c)};
  EXPECT_NEAR(trainer.train_step(step, /*lr=*/0).value(), expected_loss, 1e-5);
  const auto gradients = alone->named_parameters();
  for (const auto& item : net->named_parameters()) {
    EXPECT_LE(difference(item.value().grad(), gradients[item.key()].grad()), 1e-5) << item.key();
  }
  expect_statistics(state_of(net), torch::cat(values, 1));
}

}  // namespace
}  // namespace convae::test_training
