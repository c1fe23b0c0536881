#include "convae/data/loader.h"
#include "convae/inference/model.h"
#include "convae/metrics/image_metrics.h"
#include "convae/tests/support.h"
#include "convae/training/checkpoint.h"
#include "convae/training/losses.h"
#include "convae/training/run.h"
#include "convae/training/run_folder.h"
#include "convae/training/schedule.h"
#include "convae/training/trainer.h"
#include "convae/training/validation.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace convae::test_trainer {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::contents;
using test::difference;
using test::entries_of;
using test::identical;
using test::message_of;
using test::TemporaryFolder;
using test::wave;
using test::write_image;
using test::write_text;
using Tensors = std::map<std::string, torch::Tensor>;

constexpr Size kSizes[] = {{12, 12}, {13, 11}, {12, 12}, {9, 16}, {12, 12}, {13, 11}, {1, 1}};

ModelOptions model_options(Norm norm = Norm::batch) {
  ModelOptions options;
  options.channels = 3;
  options.levels = parse_levels("4,6");
  options.norm = norm;
  return options;
}

/// What evaluate() takes of a run's options.
TrainOptions measured_with(LossKind loss, std::int64_t batch_size) {
  TrainOptions options;
  options.loss = {{loss}};
  options.batch_size = batch_size;
  return options;
}

TrainOptions train_options(std::int64_t epochs, std::int64_t batch_size = 4) {
  TrainOptions options;
  options.epochs = epochs;
  options.batch_size = batch_size;
  options.lr = 0.01;
  options.schedule = ScheduleKind::constant;
  options.seed = 7;
  return options;
}

/// A model whose weights depend on `seed` alone.
Autoencoder seeded(const ModelOptions& options, std::uint64_t seed = 1) {
  Autoencoder net(options);
  torch::NoGradGuard no_grad;
  for (auto& item : net->named_parameters()) {
    if (contains(item.key(), "norm")) continue;  // starts at 1 and 0
    torch::Tensor& parameter = item.value();
    const double fan_in = static_cast<double>(parameter.numel() / parameter.size(0));
    parameter.copy_(0.5 * test::gaussian(parameter.sizes(), seed++) / std::sqrt(fan_in));
  }
  return net;
}

Tensors state_of(Autoencoder& net) {
  Tensors all;
  for (const auto& item : net->named_parameters()) all[item.key()] = item.value().detach().clone();
  for (const auto& item : net->named_buffers()) all[item.key()] = item.value().clone();
  return all;
}

void expect_identical(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(identical(tensor, b.at(name))) << name;
}

/// Trains as TrainingRun does, without files, to the end or until `epochs` are done.
void train(Trainer& trainer, std::int64_t epochs = std::numeric_limits<std::int64_t>::max()) {
  while (!trainer.finished() && trainer.progress().epoch < epochs) {
    trainer.train_epoch();
    if (!trainer.epoch_complete()) return;
    trainer.begin_next_epoch();
  }
}

class TrainerTest : public testing::Test {
protected:
  TrainerTest() {
    for (int i = 0; i < kImages; ++i) {
      const Size size = kSizes[i % std::size(kSizes)];
      write_image(folder_ / "data" / name_of(i), wave(3, size.h, size.w, i));
    }
  }

  static std::string name_of(int i) { return "image_" + std::to_string(10 + i) + ".png"; }

  /// kImages images of mixed sizes.
  ImageDataset dataset(ImageDataset::Options options = {}) {
    return ImageDataset(entries_of(folder_ / "data"), options);
  }

  /// `count` images of one size.
  ImageDataset uniform_dataset(int count = 10) {
    for (int i = 0; i < count; ++i) {
      write_image(folder_ / "uniform" / name_of(i), wave(3, 12, 12, i));
    }
    return ImageDataset(entries_of(folder_ / "uniform"), {});
  }

  fs::path checkpoint() const { return folder_ / "c.safetensors"; }

  void save(Trainer& trainer) {
    CheckpointInfo info;
    info.progress = trainer.progress();
    save_checkpoint(checkpoint(), trainer.net(), &trainer.optimizer(), info);
  }

  static constexpr int kImages = 17;
  TemporaryFolder folder_;
};

TEST_F(TrainerTest, LearnsToReconstructItsImages) {
  ImageDataset images = dataset();
  for (const auto kind : {OptimizerKind::adam, OptimizerKind::adamw, OptimizerKind::sgd}) {
    Autoencoder net = seeded(model_options());
    TrainOptions options = train_options(/*epochs=*/25);
    options.optimizer = kind;
    options.lr = kind == OptimizerKind::sgd ? 0.3 : 0.01;
    const double before =
        evaluate(net, images, measured_with(LossKind::mse, 4), torch::kCPU, 0).mse;
    Trainer trainer(net, images, options, torch::kCPU);
    train(trainer);
    EXPECT_TRUE(trainer.finished());
    const double after = evaluate(net, images, measured_with(LossKind::mse, 4), torch::kCPU, 0).mse;
    EXPECT_LT(after, 0.35 * before) << to_string(kind);
  }
}

TEST_F(TrainerTest, CountsStepsOfAllEpochs) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  Trainer trainer(net, images, train_options(2), torch::kCPU);
  EXPECT_EQ(trainer.steps_per_epoch(), 5);  // 17 images, 4 a step
  EXPECT_EQ(trainer.total_steps(), 10);
  int calls = 0;
  trainer.on_step = [&] { EXPECT_EQ(trainer.progress().step, ++calls); };
  trainer.train_epoch();
  EXPECT_EQ(calls, 5);
  EXPECT_EQ(trainer.progress().epoch, 0);  // until it is closed
  EXPECT_TRUE(trainer.epoch_complete());
  EXPECT_EQ(trainer.progress().epoch_images, kImages);
  trainer.begin_next_epoch();
  EXPECT_FALSE(trainer.epoch_complete());
  EXPECT_FALSE(trainer.finished());
  train(trainer);
  EXPECT_EQ(trainer.progress().step, 10);
  EXPECT_EQ(trainer.progress().epoch, 2);
  EXPECT_TRUE(trainer.finished());
}

TEST_F(TrainerTest, EveryStepHasTheRateOfTheSchedule) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  TrainOptions options = train_options(3);
  options.schedule = ScheduleKind::cosine;
  options.warmup = 4;
  Trainer trainer(net, images, options, torch::kCPU);
  std::int64_t step = 0;
  trainer.on_step = [&] {
    EXPECT_EQ(trainer.progress().epoch_lr, learning_rate(options, {step++, 15}));
  };
  train(trainer);
  EXPECT_EQ(step, 15);
}

TEST_F(TrainerTest, EpochLossIsTheMeanOverImages) {
  ImageDataset images = dataset();
  TrainOptions options = train_options(1);
  options.lr = 0;  // all steps see the same weights
  Autoencoder net = seeded(model_options(Norm::none));
  Trainer trainer(net, images, options, torch::kCPU);
  trainer.train_epoch();
  double sum = 0;
  torch::NoGradGuard no_grad;
  for (int i = 0; i < kImages; ++i) {
    const torch::Tensor x = images.load(i)->unsqueeze(0).to(torch::kFloat) / 255;
    sum += torch::mse_loss(net->forward(x), x).item<double>();
  }
  EXPECT_NEAR(trainer.epoch_loss(), sum / kImages, 1e-6);
}

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
  ImageDataset images = dataset();
  for (const LossKind loss : {LossKind::mse, LossKind::l1}) {
    for (const Norm norm : {Norm::none, Norm::group}) {
      Autoencoder net = seeded(model_options(norm));
      TrainOptions options = train_options(1, /*batch_size=*/kImages);
      options.loss = {{loss}};
      Trainer trainer(net, images, options, torch::kCPU);
      Loader loader(images, plan_training_epoch(images, kImages, 0, 1), {}, 0);
      const Step step = loader.next().value();
      ASSERT_EQ(step.size(), 4U);  // sizes
      const Tensors expected = mean_of_image_gradients(net, images, step, loss);
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

TEST_F(TrainerTest, RunningStatisticsAreThoseOfAllImagesOfTheStep) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  Trainer trainer(net, images, train_options(1, kImages), torch::kCPU);
  Loader loader(images, plan_training_epoch(images, kImages, 0, 1), {}, 0);
  const Step step = loader.next().value();
  const Tensors before = state_of(net);
  trainer.train_step(step, /*lr=*/0);
  std::vector<torch::Tensor> values;
  for (const MicroBatch& batch : step) {
    const torch::Tensor maps =
        torch::conv2d(batch.images.to(torch::kFloat) / 255, before.at("encoder.0.conv.weight"),
                      before.at("encoder.0.conv.bias"), /*stride=*/2, /*padding=*/1);
    values.push_back(maps.transpose(0, 1).flatten(1).to(torch::kDouble));
  }
  const torch::Tensor all = torch::cat(values, 1);  // (C, values)
  const Tensors after = state_of(net);
  EXPECT_LE(difference(after.at("encoder.0.norm.running_mean"), all.mean(1)), 1e-5);
  EXPECT_LE(difference(after.at("encoder.0.norm.running_var"), all.var(1, true)), 1e-5);
  EXPECT_EQ(after.at("encoder.0.norm.num_batches_tracked").item<std::int64_t>(), 1);
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
  ImageDataset images = dataset();
  const torch::Tensor x = bytes({5, 3, 12, 10}, 1);
  Autoencoder whole = seeded(model_options()), parts = seeded(model_options());
  Trainer one(whole, images, train_options(1), torch::kCPU);
  Trainer two(parts, images, train_options(1), torch::kCPU);
  const double expected = one.train_step({batch_of(x)}, /*lr=*/0).value();
  const double loss =
      two.train_step({batch_of(x.narrow(0, 0, 2)), batch_of(x.narrow(0, 2, 3))}, /*lr=*/0).value();
  EXPECT_NEAR(loss, expected, 1e-5);
  const auto gradients = whole->named_parameters();
  for (const auto& item : parts->named_parameters()) {
    EXPECT_LE(difference(item.value().grad(), gradients[item.key()].grad()), 1e-6) << item.key();
  }
}

TEST_F(TrainerTest, AccumulatesGradientsWhereAStepHasTooManyPixels) {
  ImageDataset images = dataset();
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
  Trainer trainer(net, images, train_options(1), torch::kCPU);
  const Step step = {batch_of(a), batch_of(b), batch_of(c)};
  EXPECT_NEAR(trainer.train_step(step, /*lr=*/0).value(), expected_loss, 1e-5);
  const auto gradients = alone->named_parameters();
  for (const auto& item : net->named_parameters()) {
    EXPECT_LE(difference(item.value().grad(), gradients[item.key()].grad()), 1e-5) << item.key();
  }
  const torch::Tensor all = torch::cat(values, 1);
  const Tensors after = state_of(net);
  EXPECT_LE(difference(after.at("encoder.0.norm.running_mean"), all.mean(1)), 1e-5);
  EXPECT_LE(difference(after.at("encoder.0.norm.running_var"), all.var(1, true)), 1e-5);
  EXPECT_EQ(after.at("encoder.0.norm.num_batches_tracked").item<std::int64_t>(), 1);
}

TEST_F(TrainerTest, BFloat16TrainsNearlyAsFloatDoesAndKeepsItsWeightsInFloat) {
  ImageDataset images = dataset();
  TrainOptions options = train_options(/*epochs=*/6);
  std::vector<double> losses;
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    options.precision = precision;
    Autoencoder net = seeded(model_options());
    Trainer trainer(net, images, options, torch::kCPU);
    while (!trainer.finished()) {
      trainer.train_epoch();
      losses.push_back(trainer.epoch_loss());
      trainer.begin_next_epoch();
    }
    for (const auto& parameter : net->named_parameters()) {
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
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options(Norm::none));
  TrainOptions options = train_options(1, kImages);
  options.clip_grad = 1e-3;
  Trainer trainer(net, images, options, torch::kCPU);
  Loader loader(images, plan_training_epoch(images, kImages, 0, 1), {}, 0);
  trainer.train_step(loader.next().value(), 0);
  double sum = 0;
  for (const auto& parameter : net->parameters()) {
    sum += parameter.grad().square().sum().item<double>();
  }
  EXPECT_NEAR(std::sqrt(sum), 1e-3, 1e-5);
}

TEST_F(TrainerTest, ResumedRunEqualsAnUninterruptedOne) {
  ImageDataset::Options cropped;
  cropped.crop = {1, 1};
  for (const auto& data : {ImageDataset::Options{}, cropped}) {
    for (const auto kind : {OptimizerKind::adam, OptimizerKind::sgd}) {
      ImageDataset images = dataset(data);
      TrainOptions options = train_options(4);
      options.optimizer = kind;
      Autoencoder whole = seeded(model_options());
      Trainer uninterrupted(whole, images, options, torch::kCPU);
      train(uninterrupted);

      options.epochs = 2;
      Autoencoder first = seeded(model_options());
      Trainer start(first, images, options, torch::kCPU);
      train(start);
      save(start);

      options.epochs = 4;
      Autoencoder second = seeded(model_options(), /*seed=*/99);
      Trainer rest(second, images, options, torch::kCPU);
      rest.restore(read_checkpoint(checkpoint()), "'c'");
      train(rest);
      expect_identical(state_of(second), state_of(whole));
      expect_identical(rest.optimizer().state(), uninterrupted.optimizer().state());
      EXPECT_EQ(rest.progress().step, uninterrupted.progress().step);
    }
  }
}

TEST_F(TrainerTest, RunInterruptedInAnEpochEqualsAnUninterruptedOne) {
  ImageDataset images = dataset();
  TrainOptions options = train_options(3);
  options.schedule = ScheduleKind::cosine;
  Autoencoder whole = seeded(model_options());
  Trainer uninterrupted(whole, images, options, torch::kCPU);
  train(uninterrupted);

  for (const std::int64_t stop : {1, 3, 7, 14}) {
    Autoencoder first = seeded(model_options());
    Trainer start(first, images, options, torch::kCPU);
    start.should_stop = [&] { return start.progress().step == stop; };
    train(start);
    ASSERT_EQ(start.progress().step, stop);
    ASSERT_FALSE(start.epoch_complete());
    save(start);

    Autoencoder second = seeded(model_options(), 99);
    Trainer rest(second, images, options, torch::kCPU);
    rest.restore(read_checkpoint(checkpoint()), "'c'");
    EXPECT_EQ(rest.progress().epoch_position, 4 * (stop % 5));
    rest.train_epoch();
    EXPECT_EQ(rest.progress().epoch_images, kImages);  // both parts of the epoch
    rest.begin_next_epoch();
    train(rest);
    expect_identical(state_of(second), state_of(whole));
    EXPECT_EQ(rest.progress().step, 15);
  }
}

TEST_F(TrainerTest, LossOfAnInterruptedEpochIsThatOfTheWholeEpoch) {
  ImageDataset images = dataset();
  Autoencoder whole = seeded(model_options());
  Trainer uninterrupted(whole, images, train_options(1), torch::kCPU);
  uninterrupted.train_epoch();

  Autoencoder first = seeded(model_options());
  Trainer start(first, images, train_options(1), torch::kCPU);
  start.should_stop = [&] { return start.progress().step == 2; };
  start.train_epoch();
  save(start);
  Trainer rest(first, images, train_options(1), torch::kCPU);
  rest.restore(read_checkpoint(checkpoint()), "'c'");
  rest.train_epoch();
  EXPECT_EQ(rest.epoch_loss(), uninterrupted.epoch_loss());
}

TEST_F(TrainerTest, NumberOfWorkersDoesNotChangeTheWeights) {
  Tensors alone;
  for (const std::int64_t workers : {0, 1, 3}) {
    write_image(folder_ / "data" / name_of(4), wave(3, 12, 12, 4));
    ImageDataset::Options uncached;
    uncached.cache = Cache::none;
    ImageDataset images = dataset(uncached);
    write_text(folder_ / "data" / name_of(4), "");  // was listed as a good file
    Autoencoder net = seeded(model_options());
    Trainer trainer(net, images, train_options(2), torch::kCPU, workers);
    train(trainer);
    EXPECT_EQ(images.bad_files().size(), 1U);
    if (workers == 0) {
      alone = state_of(net);
    } else {
      expect_identical(state_of(net), alone);
    }
  }
}

TEST_F(TrainerTest, FinishesTheEpochWithAnotherBatchSizeAfterAResume) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  Trainer start(net, images, train_options(2, /*batch_size=*/4), torch::kCPU);
  start.should_stop = [&] { return start.progress().step == 7; };
  train(start);
  ASSERT_EQ(start.progress().epoch, 1);
  ASSERT_EQ(start.progress().epoch_position, 8);
  save(start);

  Trainer rest(net, images, train_options(2, /*batch_size=*/5), torch::kCPU);
  rest.restore(read_checkpoint(checkpoint()), "'c'");
  std::vector<std::int64_t> positions;
  rest.on_step = [&] { positions.push_back(rest.progress().epoch_position); };
  rest.train_epoch();
  EXPECT_EQ(positions, (std::vector<std::int64_t>{13, 17}));
  EXPECT_TRUE(rest.epoch_complete());
  EXPECT_EQ(rest.progress().epoch_images, kImages);
  rest.begin_next_epoch();
  EXPECT_TRUE(rest.finished());
}

TEST_F(TrainerTest, GoesOnAfterAResumeWithMoreEpochsOnly) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  Trainer start(net, images, train_options(1), torch::kCPU);
  train(start);
  save(start);
  Trainer same(net, images, train_options(1), torch::kCPU);
  same.restore(read_checkpoint(checkpoint()), "'c'");
  EXPECT_TRUE(same.finished());
  Trainer more(net, images, train_options(2), torch::kCPU);
  more.restore(read_checkpoint(checkpoint()), "'c'");
  EXPECT_FALSE(more.finished());
}

TEST_F(TrainerTest, RefusesToResumeAnotherArchitecture) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  Trainer trainer(net, images, train_options(1), torch::kCPU);
  save(trainer);
  Autoencoder other = seeded(model_options(Norm::none));
  Trainer rest(other, images, train_options(1), torch::kCPU);
  EXPECT_EQ(
      message_of<CheckpointError>([&] { rest.restore(read_checkpoint(checkpoint()), "'c'"); }),
      "'c': it holds 'decoder.0.norm.bias', which this architecture does not have");
}

TEST_F(TrainerTest, StopsAtMaxSteps) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  TrainOptions options = train_options(4);
  options.max_steps = 7;
  Trainer trainer(net, images, options, torch::kCPU);
  EXPECT_EQ(trainer.total_steps(), 7);
  train(trainer);
  EXPECT_TRUE(trainer.finished());
  EXPECT_EQ(trainer.progress().step, 7);
  EXPECT_EQ(trainer.progress().epoch, 1);
  EXPECT_EQ(trainer.progress().epoch_position, 8);
  options.max_steps = 1000;
  EXPECT_EQ(Trainer(net, images, options, torch::kCPU).total_steps(), 20);
}

TEST_F(TrainerTest, NanWeightStopsTheFirstStepAndNamesItsImages) {
  ImageDataset images = uniform_dataset(6);
  Autoencoder net = seeded(model_options());
  {
    torch::NoGradGuard no_grad;
    net->named_parameters()["encoder.0.conv.bias"][1] = std::nanf("");
  }
  Trainer trainer(net, images, train_options(1, 6), torch::kCPU);
  const Tensors before = state_of(net);
  const std::string message = message_of<NonFiniteError>([&] { trainer.train_epoch(); });
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
  trainer.on_step = [&] { after_step = state_of(net); };
  const std::string message = message_of<NonFiniteError>([&] { trainer.train_epoch(); });
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
  trainer.on_skipped_step = [&](const std::string& message) { skipped.push_back(message); };
  Tensors after_first;
  trainer.on_step = [&] {
    if (trainer.progress().step == 1) after_first = state_of(net);
  };
  trainer.train_epoch();
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
  EXPECT_EQ(message_of<NonFiniteError>([&] { trainer.train_epoch(); }),
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
  const std::string message = message_of<NonFiniteError>([&] { trainer.train_epoch(); });
  EXPECT_TRUE(message.starts_with("the gradient is not finite at step 1 (images: ")) << message;
  expect_identical(state_of(net), before);
}

TEST_F(TrainerTest, SkipsBadImagesAndCountsTheOthers) {
  ImageDataset images = uniform_dataset(6);
  write_text(folder_ / "uniform" / name_of(2), "");
  Autoencoder net = seeded(model_options());
  Trainer trainer(net, images, train_options(1, 2), torch::kCPU);
  trainer.train_epoch();
  EXPECT_TRUE(trainer.epoch_complete());
  EXPECT_EQ(trainer.progress().epoch_images, 5);
  EXPECT_EQ(images.bad_files().size(), 1U);
}

TEST_F(TrainerTest, SaysThatNoImageCanBeUsed) {
  ImageDataset images = uniform_dataset(3);
  for (int i = 0; i < 3; ++i) write_text(folder_ / "uniform" / name_of(i), "");
  Autoencoder net = seeded(model_options());
  Trainer trainer(net, images, train_options(1, 2), torch::kCPU);
  const Tensors before = state_of(net);
  EXPECT_EQ(message_of<std::runtime_error>([&] { trainer.train_epoch(); }),
            "none of the 3 training images can be used");
  expect_identical(state_of(net), before);
}

TEST_F(TrainerTest, RefusesOptionsThatDoNotWork) {
  ImageDataset images = uniform_dataset(3);
  Autoencoder net = seeded(model_options());
  EXPECT_EQ(message_of<std::invalid_argument>(
                [&] { Trainer(net, images, train_options(0), torch::kCPU); }),
            "epochs must be at least 1, but is 0");
}

TEST_F(TrainerTest, EvaluationIsTheMeanOverImagesWhateverTheirSize) {
  ImageDataset images = dataset();
  Autoencoder net = seeded(model_options());
  Trainer trainer(net, images, train_options(2), torch::kCPU);
  train(trainer);
  net->train();
  const Quality quality =
      evaluate(net, images, measured_with(LossKind::l1, 4), torch::kCPU, /*workers=*/2);
  EXPECT_TRUE(net->is_training());  // as it was
  net->eval();
  torch::NoGradGuard no_grad;
  double l1 = 0, mse = 0, decibels = 0, ssim = 0;
  int large = 0;
  for (int i = 0; i < kImages; ++i) {
    const torch::Tensor x = images.load(i)->unsqueeze(0).to(torch::kFloat) / 255;
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
  EXPECT_EQ(quality.images, kImages);
  EXPECT_NEAR(quality.loss, l1 / kImages, 1e-6);
  EXPECT_NEAR(quality.mse, mse / kImages, 1e-6);
  EXPECT_NEAR(quality.psnr, decibels / kImages, 1e-4);
  ASSERT_LT(large, kImages);
  EXPECT_NEAR(quality.ssim, ssim / large, 1e-5);
}

TEST_F(TrainerTest, EvaluationOfNoImageHasNoValues) {
  ImageDataset images({}, {});
  Autoencoder net = seeded(model_options());
  const Quality quality = evaluate(net, images, measured_with(LossKind::mse, 4), torch::kCPU, 0);
  EXPECT_EQ(quality.images, 0);
  EXPECT_TRUE(std::isnan(quality.loss));
  EXPECT_TRUE(std::isnan(quality.psnr));
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

/// Rows of metrics.csv, split.
std::vector<std::vector<std::string>> rows_of(const fs::path& file) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream text(contents(file));
  for (std::string line; std::getline(text, line);) {
    rows.emplace_back();
    std::istringstream fields(line);
    for (std::string field; std::getline(fields, field, ',');) rows.back().push_back(field);
  }
  return rows;
}

/// A run folder, a trainer and validation images.
class TrainingRunTest : public TrainerTest {
protected:
  TrainingRunTest() {
    for (int i = 0; i < 5; ++i) {
      write_image(folder_ / "val" / name_of(i), wave(3, 12 + i % 2, 12, 40 + i));
    }
    training_.reset(new ImageDataset(dataset()));
    validation_.reset(new ImageDataset(entries_of(folder_ / "val"), {}));
  }

  /// Starts in runs/NAME; the run is at run_.
  void start(const std::string& name, Autoencoder net, const TrainOptions& options,
             bool with_validation = true) {
    run_folder_ = std::make_unique<RunFolder>(RunFolder::create(folder_ / "runs", name));
    resume(net, options, with_validation);
  }

  void resume(Autoencoder net, const TrainOptions& options, bool with_validation = true) {
    trainer_ = std::make_unique<Trainer>(net, *training_, options, torch::kCPU);
    run_ = std::make_unique<TrainingRun>(*trainer_, *run_folder_, *training_,
                                         with_validation ? validation_.get() : nullptr, options,
                                         "the config", /*workers=*/0);
  }

  fs::path in_run(const std::string& name) const { return run_folder_->path() / name; }

  std::vector<std::string> names(const std::string& part) const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(in_run(part))) {
      all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  std::unique_ptr<ImageDataset> training_, validation_;
  std::unique_ptr<RunFolder> run_folder_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<TrainingRun> run_;
};

using Names = std::vector<std::string>;

TEST_F(TrainingRunTest, WritesMetricsWeightsAndSamples) {
  TrainOptions options = train_options(5);
  options.save_every = 2;
  Autoencoder net = seeded(model_options());
  start("a", net, options);
  std::vector<std::int64_t> epochs, best;
  run_->on_epoch = [&](const MetricsRow& row, bool is_best) {
    epochs.push_back(row.epoch);
    if (is_best) best.push_back(row.epoch);
  };
  EXPECT_EQ(run_->run(), TrainingRun::Outcome::finished);
  EXPECT_EQ(epochs, (std::vector<std::int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(names("weights"), (Names{"best.safetensors", "epoch_0002.safetensors",
                                     "epoch_0004.safetensors", "last.safetensors"}));
  EXPECT_EQ(names("samples"),
            (Names{"best.png", "epoch_0001.png", "epoch_0002.png", "epoch_0004.png",
                   "epoch_0005.png", "samples.csv", "worst.png"}));
  const auto rows = rows_of(in_run("metrics.csv"));
  ASSERT_EQ(rows.size(), 6U);
  std::size_t smallest = 1;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    ASSERT_EQ(rows[i].size(), 10U);
    EXPECT_EQ(rows[i][0], std::to_string(i));
    EXPECT_EQ(rows[i][1], std::to_string(5 * i));
    EXPECT_EQ(rows[i][2], "0.01");
    if (std::stod(rows[i][4]) < std::stod(rows[smallest][4])) smallest = i;
  }
  EXPECT_LT(std::stod(rows[5][3]), std::stod(rows[1][3]));
  ASSERT_FALSE(best.empty());
  EXPECT_EQ(best.back(), static_cast<std::int64_t>(smallest));

  const Checkpoint last = read_checkpoint(in_run("weights/last.safetensors"));
  EXPECT_EQ(last.info.config, "the config");
  EXPECT_EQ(last.info.seed, options.seed);
  EXPECT_EQ(last.info.progress.epoch, 5);
  EXPECT_EQ(last.info.progress.best_epoch, static_cast<std::int64_t>(smallest));
  for (const auto& [name, tensor] : state_of(net)) {
    EXPECT_TRUE(identical(last.tensors.at(name), tensor)) << name;
  }
  const Checkpoint kept = read_checkpoint(in_run("weights/epoch_0002.safetensors"));
  EXPECT_EQ(kept.info.progress.epoch, 2);
  const Checkpoint best_weights = read_checkpoint(in_run("weights/best.safetensors"));
  EXPECT_EQ(best_weights.info.progress.epoch, static_cast<std::int64_t>(smallest));
}

TEST_F(TrainingRunTest, ValidationColumnsDescribeTheSavedModel) {
  start("a", seeded(model_options()), train_options(2));
  run_->run();
  Model loaded = load(in_run("weights/last.safetensors"));
  Autoencoder saved = loaded.net();
  const Quality quality =
      evaluate(saved, *validation_, measured_with(LossKind::mse, 1), torch::kCPU, 0);
  const auto row = rows_of(in_run("metrics.csv")).at(2);
  EXPECT_NEAR(std::stod(row[4]), quality.loss, 1e-6);
  EXPECT_NEAR(std::stod(row[5]), quality.mse, 1e-6);
  EXPECT_NEAR(std::stod(row[6]), quality.psnr, 1e-3);
  EXPECT_NEAR(std::stod(row[7]), quality.ssim, 1e-5);
}

TEST_F(TrainingRunTest, SamplesShowInputReconstructionAndErrorOfValidationImages) {
  start("a", seeded(model_options()), train_options(1));
  run_->run();
  const torch::Tensor picture =
      decode_image(read_file(in_run("samples/epoch_0001.png")), /*channels=*/3);
  // The first image, 12×12, is enlarged by a whole factor at the top left.
  const torch::Tensor input = validation_->load(0).value();
  const std::int64_t factor = 112 / 12;
  EXPECT_TRUE(torch::equal(picture.narrow(1, 0, 12 * factor).narrow(2, 0, 12 * factor),
                           input.repeat_interleave(factor, 1).repeat_interleave(factor, 2)));
  EXPECT_GE(picture.size(2), 3 * 12 * factor);
  EXPECT_GE(picture.size(1), 3 * 12 * factor + 2 * 13 * (112 / 13));  // five images
}

TEST_F(TrainingRunTest, WithoutValidationBestFollowsTheTrainingLoss) {
  start("a", seeded(model_options()), train_options(3), /*with_validation=*/false);
  std::vector<double> losses;
  std::int64_t best = 0;
  run_->on_epoch = [&](const MetricsRow& row, bool is_best) {
    losses.push_back(row.train_loss);
    if (is_best) best = row.epoch;
  };
  run_->run();
  EXPECT_EQ(best,
            1 + std::distance(losses.begin(), std::min_element(losses.begin(), losses.end())));
  for (int i = 1; i <= 3; ++i) {
    const auto row = rows_of(in_run("metrics.csv")).at(i);
    for (int column = 4; column < 8; ++column) EXPECT_EQ(row[column], "");
    EXPECT_NE(row[3], "");
  }
  EXPECT_EQ(names("samples"), (Names{"epoch_0001.png", "epoch_0003.png", "samples.csv"}))
      << "best and worst are of validation images";
}

TEST_F(TrainingRunTest, SavesTheStartBeforeTheFirstStep) {
  Autoencoder net = seeded(model_options());
  start("a", net, train_options(1));
  run_->save_start();
  const Checkpoint checkpoint = read_checkpoint(in_run("weights/last.safetensors"));
  EXPECT_EQ(checkpoint.info.progress.step, 0);
  for (const auto& [name, tensor] : state_of(net)) {
    EXPECT_TRUE(identical(checkpoint.tensors.at(name), tensor)) << name;
  }
}

TEST_F(TrainingRunTest, StopsAfterPatienceEpochsWithoutABetterLoss) {
  TrainOptions options = train_options(10);
  options.lr = 0;
  options.patience = 2;
  // Without learning and norm, every validation gives the same loss.
  start("a", seeded(model_options(Norm::none)), options);
  EXPECT_EQ(run_->run(), TrainingRun::Outcome::stopped_early);
  EXPECT_EQ(rows_of(in_run("metrics.csv")).size(), 4U);  // the best and two more
  EXPECT_EQ(names("samples"),
            (Names{"best.png", "epoch_0001.png", "epoch_0003.png", "samples.csv", "worst.png"}));
  const Checkpoint last = read_checkpoint(run_folder_->last());
  EXPECT_TRUE(last.info.progress.stopped_early);
  EXPECT_EQ(last.info.progress.best_epoch, 1);
  Autoencoder net = seeded(model_options(Norm::none));
  resume(net, options);
  trainer_->restore(last, "'last'");
  EXPECT_TRUE(trainer_->finished());
}

TEST_F(TrainingRunTest, PatienceStartsAnewWithEveryBetterLoss) {
  TrainOptions options = train_options(6);
  options.patience = 2;
  start("a", seeded(model_options()), options);
  std::int64_t epochs = 0, best = 0;
  run_->on_epoch = [&](const MetricsRow& row, bool is_best) {
    epochs = row.epoch;
    if (is_best) best = row.epoch;
    EXPECT_LE(row.epoch - best, 2);
  };
  const auto outcome = run_->run();
  EXPECT_EQ(outcome == TrainingRun::Outcome::stopped_early, epochs - best == 2);
  EXPECT_GT(epochs, 3);  // it learns in the first epochs
}

TEST_F(TrainingRunTest, MaxStepsEndInARowAndASampleOfTheEpochUnderWay) {
  TrainOptions options = train_options(10);
  options.max_steps = 7;  // five an epoch
  start("a", seeded(model_options()), options);
  EXPECT_EQ(run_->run(), TrainingRun::Outcome::finished);
  const auto rows = rows_of(in_run("metrics.csv"));
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[2][0], "2");
  EXPECT_EQ(rows[2][1], "7");
  EXPECT_EQ(names("samples"),
            (Names{"best.png", "epoch_0001.png", "epoch_0002.png", "samples.csv", "worst.png"}));
  const Progress progress = read_checkpoint(run_folder_->last()).info.progress;
  EXPECT_EQ(progress.epoch, 1);
  EXPECT_EQ(progress.epoch_position, 8);
}

TEST_F(TrainingRunTest, MaxStepsThatEndAnEpochEndInASampleToo) {
  TrainOptions options = train_options(10);
  options.max_steps = 10;
  start("a", seeded(model_options()), options);
  EXPECT_EQ(run_->run(), TrainingRun::Outcome::finished);
  EXPECT_EQ(rows_of(in_run("metrics.csv")).size(), 3U);
  EXPECT_EQ(names("samples"),
            (Names{"best.png", "epoch_0001.png", "epoch_0002.png", "samples.csv", "worst.png"}));
}

TEST_F(TrainingRunTest, GoesOnFromAnInterruptionAsIfThereHadBeenNone) {
  const TrainOptions options = train_options(3);
  Autoencoder whole = seeded(model_options());
  start("whole", whole, options);
  EXPECT_EQ(run_->run(), TrainingRun::Outcome::finished);
  const auto expected_rows = rows_of(in_run("metrics.csv"));
  const Tensors expected_best = read_checkpoint(run_folder_->best()).tensors;

  for (const std::int64_t stop : {2, 5, 8, 10}) {  // 5 and 10 end an epoch
    Autoencoder first = seeded(model_options());
    start("parts", first, options);
    run_->should_stop = [&] { return trainer_->progress().step >= stop; };
    EXPECT_EQ(run_->run(), TrainingRun::Outcome::interrupted);
    EXPECT_EQ(trainer_->progress().step, stop);

    Autoencoder second = seeded(model_options(), 99);
    resume(second, options);
    const Checkpoint last = read_checkpoint(run_folder_->last());
    EXPECT_EQ(last.info.progress.step, stop);
    trainer_->restore(last, "'last'");
    EXPECT_EQ(run_->run(), TrainingRun::Outcome::finished);
    expect_identical(state_of(second), state_of(whole));
    expect_identical(read_checkpoint(run_folder_->best()).tensors, expected_best);
    const auto rows = rows_of(in_run("metrics.csv"));
    ASSERT_EQ(rows.size(), expected_rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {  // all but images_per_s and seconds
      EXPECT_EQ(Names(rows[i].begin(), rows[i].begin() + 8),
                Names(expected_rows[i].begin(), expected_rows[i].begin() + 8));
    }
  }
}

TEST_F(TrainingRunTest, KeepsTheLastGoodCheckpointWhereWeightsOverflow) {
  TrainOptions options = train_options(2, /*batch_size=*/kImages);
  options.optimizer = OptimizerKind::sgd;
  options.lr = 1e300;
  Autoencoder net = seeded(model_options(Norm::none));
  start("a", net, options);
  run_->save_start();
  const std::string message = message_of<CheckpointError>([&] { run_->run(); });
  EXPECT_TRUE(contains(message, "holds values that are not finite; try a lower lr")) << message;
  EXPECT_EQ(read_checkpoint(run_folder_->last()).info.progress.step, 0);
  EXPECT_FALSE(fs::exists(run_folder_->best()));
}

TEST_F(TrainingRunTest, ReadsItsCheckpointAfterAValidationThatOverflowed) {
  ModelOptions model = model_options(Norm::none);
  model.output = Output::linear;
  TrainOptions options = train_options(2, /*batch_size=*/kImages);
  options.optimizer = OptimizerKind::sgd;
  options.lr = 1e15;  // weights stay finite, squares of errors do not
  start("a", seeded(model), options);
  EXPECT_THROW(run_->run(), NonFiniteError);
  EXPECT_EQ(rows_of(in_run("metrics.csv")).at(1).at(4), "inf");
  EXPECT_EQ(read_checkpoint(run_folder_->last()).info.progress.best_epoch, 0);
}

}  // namespace
}  // namespace convae::test_trainer
