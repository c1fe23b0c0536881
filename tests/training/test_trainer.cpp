#include "convae/tests/training/trainer_fixture.h"
#include "convae/training/checkpoint.h"
#include "convae/training/schedule.h"
#include "convae/training/validation.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace convae::test_training {
namespace {

TEST_F(TrainerTest, LearnsToReconstructItsImages) {
  for (const auto kind :
       {OptimizerKind::adam, OptimizerKind::adamw, OptimizerKind::sgd, OptimizerKind::muon}) {
    Autoencoder net = seeded(model_options());
    TrainOptions options = train_options(/*epochs=*/25);
    options.optimizer = kind;
    options.lr = kind == OptimizerKind::sgd ? 0.3 : 0.01;
    const auto mse = [&] {
      return validate(net, images_, measured_with(LossKind::mse, 4), torch::kCPU, 0).mse;
    };
    const double before = mse();
    Trainer trainer = trainer_of(options, net);
    train(trainer);
    EXPECT_TRUE(trainer.finished());
    EXPECT_LT(mse(), 0.35 * before) << to_string(kind);
  }
}

TEST_F(TrainerTest, DocumentedExampleTrainsAllEpochsAndEnds) {
  Trainer trainer = trainer_of(train_options(3));
  for (; !trainer.finished(); trainer.close_epoch()) trainer.train_steps();  // as in trainer.h
  EXPECT_EQ(trainer.progress().epoch, 3);
  EXPECT_EQ(trainer.progress().step, 15);
}

TEST_F(TrainerTest, EpochGivesItsLossAndGoesOnWhereItWasStopped) {
  Trainer whole = trainer_of(train_options(1)), trainer = trainer_of(train_options(1));
  const double loss = train_epoch(whole);
  train_epoch(trainer, [&] { return trainer.progress().step == 2; });
  EXPECT_EQ(trainer.progress().epoch, 0);
  EXPECT_EQ(trainer.progress().epoch_position, 8);
  EXPECT_EQ(train_epoch(trainer), loss);
  EXPECT_TRUE(trainer.finished());
  expect_identical(state_of(trainer.net()), state_of(whole.net()));
}

TEST_F(TrainerTest, CountsStepsOfAllEpochs) {
  Trainer trainer = trainer_of(train_options(2));
  EXPECT_EQ(trainer.steps_per_epoch(), 5);  // 17 images, 4 a step
  EXPECT_EQ(trainer.total_steps(), 10);
  int calls = 0;
  trainer.train_steps([&] {
    EXPECT_EQ(trainer.progress().step, ++calls);
    return false;
  });
  EXPECT_EQ(calls, 5);
  EXPECT_EQ(trainer.progress().epoch, 0);  // until it is closed
  EXPECT_TRUE(trainer.epoch_complete());
  EXPECT_EQ(trainer.progress().epoch_images, kImages);
  trainer.close_epoch();
  EXPECT_FALSE(trainer.epoch_complete());
  EXPECT_FALSE(trainer.finished());
  train(trainer);
  EXPECT_EQ(trainer.progress().step, 10);
  EXPECT_EQ(trainer.progress().epoch, 2);
  EXPECT_TRUE(trainer.finished());
}

TEST_F(TrainerTest, NoImagesTakeNoEpochs) {
  ImageDataset images({}, {});
  Trainer trainer(seeded(model_options()), images, train_options(3), torch::kCPU);
  EXPECT_EQ(trainer.total_steps(), 0);
  EXPECT_EQ(trainer.total_epochs(), 0);
}

TEST_F(TrainerTest, EveryStepHasTheRateOfTheSchedule) {
  TrainOptions options = train_options(3);
  options.schedule = ScheduleKind::cosine;
  options.warmup = 4;
  Trainer trainer = trainer_of(options);
  std::int64_t step = 0;
  train(trainer, [&] {
    EXPECT_EQ(trainer.progress().epoch_lr, learning_rate(options, {step++, 15}));
    return false;
  });
  EXPECT_EQ(step, 15);
}

TEST_F(TrainerTest, EpochLossIsTheMeanOverImages) {
  TrainOptions options = train_options(1);
  options.lr = 0;  // all steps see the same weights
  Autoencoder net = seeded(model_options(Norm::none));
  Trainer trainer = trainer_of(options, net);
  trainer.train_steps();
  double sum = 0;
  torch::NoGradGuard no_grad;
  for (int i = 0; i < kImages; ++i) {
    const torch::Tensor x = images_.load(i)->unsqueeze(0).to(torch::kFloat) / 255;
    sum += torch::mse_loss(net->forward(x), x).item<double>();
  }
  EXPECT_NEAR(trainer.epoch_loss(), sum / kImages, 1e-6);
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

TEST_F(TrainerTest, AverageGoesOnWithAnotherOptimizer) {
  ImageDataset images = uniform_dataset();
  TrainOptions options = train_options(/*epochs=*/30, /*batch_size=*/10);
  options.ema = 0.999;
  Autoencoder first = seeded(model_options(Norm::none)), second = seeded(model_options(Norm::none));
  Trainer start(first, images, options, torch::kCPU);
  train(start);
  CheckpointInfo info;
  info.progress = start.progress();
  save_checkpoint(checkpoint(), first, &start.optimizer(), info, &start.average());

  options.epochs = 31;
  options.optimizer = OptimizerKind::sgd;
  options.lr = 0;
  Trainer rest(second, images, options, torch::kCPU);
  rest.restore(read_checkpoint(checkpoint()), "'c'");
  const std::string name = "encoder.0.conv.weight";
  const torch::Tensor before = rest.average().state().at("ema." + name).clone();
  train(rest);
  const double share = 1 - 32.0 / 41;  // of a 31st step
  EXPECT_LE(difference(rest.average().state().at("ema." + name),
                       before.lerp(state_of(second).at(name), share)),
            1e-6);
}

TEST_F(TrainerTest, RunInterruptedInAnEpochEqualsAnUninterruptedOne) {
  TrainOptions options = train_options(3);
  options.schedule = ScheduleKind::cosine;
  Trainer whole = trainer_of(options);
  std::vector<double> losses;
  while (!whole.finished()) losses.push_back(train_epoch(whole));

  for (const std::int64_t stop : {1, 3, 7, 14}) {
    Trainer start = trainer_of(options);
    train(start, [&] { return start.progress().step == stop; });
    ASSERT_EQ(start.progress().step, stop);
    ASSERT_FALSE(start.epoch_complete());
    save(start);

    Trainer rest = trainer_of(options, seeded(model_options(), 99));
    rest.restore(read_checkpoint(checkpoint()), "'c'");
    EXPECT_EQ(rest.progress().epoch_position, 4 * (stop % 5));
    rest.train_steps();
    EXPECT_EQ(rest.progress().epoch_images, kImages);  // both parts of the epoch
    EXPECT_EQ(rest.epoch_loss(), losses[stop / 5]);
    rest.close_epoch();
    train(rest);
    expect_identical(state_of(rest.net()), state_of(whole.net()));
    EXPECT_EQ(rest.progress().step, 15);
  }
}

TEST_F(TrainerTest, AnEpochWhoseStepsAreAllDoneDoesNotWait) {
  Trainer trainer = trainer_of(train_options(1));
  trainer.train_steps();
  trainer.train_steps();
  EXPECT_EQ(trainer.waiting_share(), 0);
}

TEST_F(TrainerTest, NumberOfWorkersDoesNotChangeTheWeights) {
  Tensors alone;
  for (const std::int64_t workers : {0, 1, 3}) {
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
  Trainer start = trainer_of(train_options(2, /*batch_size=*/4));
  train(start, [&] { return start.progress().step == 7; });
  ASSERT_EQ(start.progress().epoch, 1);
  ASSERT_EQ(start.progress().epoch_position, 8);
  save(start);

  Trainer rest = trainer_of(train_options(2, /*batch_size=*/5));
  rest.restore(read_checkpoint(checkpoint()), "'c'");
  std::vector<std::int64_t> positions;
  rest.train_steps([&] {
    positions.push_back(rest.progress().epoch_position);
    return false;
  });
  EXPECT_EQ(positions, (std::vector<std::int64_t>{13, 17}));
  EXPECT_TRUE(rest.epoch_complete());
  EXPECT_EQ(rest.progress().epoch_images, kImages);
  rest.close_epoch();
  EXPECT_TRUE(rest.finished());
}

// Far more time than a test takes, most of it spent already: what is measured makes no difference.
constexpr double kMuchTime = 1e6;

TrainOptions for_much_time() {
  TrainOptions options = train_options(1);
  options.time = kMuchTime;
  return options;
}

TEST_F(TrainerTest, ScheduleGoesByTheShareOfTheTimeThatIsUsed) {
  TrainOptions options = for_much_time();
  options.schedule = ScheduleKind::cosine;
  Trainer trainer = trainer_of(options);
  trainer.add_time(0.5 * kMuchTime);
  while (trainer.progress().step < 200) train_epoch(trainer);
  EXPECT_GT(trainer.progress().epoch, 1) << "the time takes the place of the epochs";
  EXPECT_NEAR(static_cast<double>(trainer.total_steps()), 401, 3) << "as many again";
  EXPECT_NEAR(trainer.progress().epoch_lr, options.lr / 2, 0.01 * options.lr);
  trainer.add_time(0.4999 * kMuchTime);
  train_epoch(trainer);
  train_epoch(trainer);
  EXPECT_LT(trainer.progress().epoch_lr, 1e-3 * options.lr);
  EXPECT_GT(trainer.progress().epoch_lr, 0) << "the last step is one, too";
  EXPECT_FALSE(trainer.finished());
}

TEST_F(TrainerTest, TimeEndsARunWithinAnEpochAndAResumeGoesOnForMore) {
  TrainOptions options = for_much_time();
  Trainer trainer = trainer_of(options);
  trainer.keep_free(0.2 * kMuchTime);
  trainer.add_time(0.79 * kMuchTime);
  trainer.train_steps([&] {
    if (trainer.progress().step == 2) trainer.add_time(0.02 * kMuchTime);
    return false;
  });
  EXPECT_EQ(trainer.progress().step, 3);
  EXPECT_TRUE(trainer.finished()) << "the rest is for validation";
  EXPECT_FALSE(trainer.epoch_complete());
  trainer.progress().seconds = kMuchTime;
  save(trainer);

  Trainer same = trainer_of(options);
  same.restore(read_checkpoint(checkpoint()), "'c'");
  EXPECT_TRUE(same.finished());
  options.time = 2 * kMuchTime;
  Trainer more = trainer_of(options);
  more.restore(read_checkpoint(checkpoint()), "'c'");
  more.train_steps();
  EXPECT_TRUE(more.epoch_complete());
  EXPECT_NEAR(more.progress().seconds, kMuchTime, 1000);
}

TEST_F(TrainerTest, TimeThatIsOverHasTakenTheEpochsThatWereTrained) {
  Trainer trainer = trainer_of(for_much_time());
  train_epoch(trainer);
  trainer.progress().seconds = kMuchTime;
  EXPECT_EQ(trainer.progress().epoch, 1);
  EXPECT_EQ(trainer.total_epochs(), 1);
}

TEST_F(TrainerTest, KeepsAQuarterOfTheTimeForSteps) {
  Trainer trainer = trainer_of(for_much_time());
  trainer.keep_free(5 * kMuchTime);
  trainer.train_steps();
  EXPECT_TRUE(trainer.epoch_complete());
}

TEST_F(TrainerTest, RefusesToResumeAnotherArchitecture) {
  Trainer trainer = trainer_of(train_options(1));
  save(trainer);
  Trainer rest = trainer_of(train_options(1), seeded(model_options(Norm::none)));
  EXPECT_EQ(
      message_of<CheckpointError>([&] { rest.restore(read_checkpoint(checkpoint()), "'c'"); }),
      "'c': it holds 'decoder.0.norm.bias', which this architecture does not have");
}

TEST_F(TrainerTest, StopsAtMaxSteps) {
  TrainOptions options = train_options(4);
  options.max_steps = 7;
  Trainer trainer = trainer_of(options);
  EXPECT_EQ(trainer.total_steps(), 7);
  train(trainer);
  EXPECT_TRUE(trainer.finished());
  EXPECT_EQ(trainer.progress().step, 7);
  EXPECT_EQ(trainer.progress().epoch, 1);
  EXPECT_EQ(trainer.progress().epoch_position, 8);
  options.max_steps = 1000;
  EXPECT_EQ(trainer_of(options).total_steps(), 20);
}

TEST_F(TrainerTest, SkipsBadImagesAndCountsTheOthers) {
  ImageDataset images = uniform_dataset(6);
  write_text(folder_ / "uniform" / name_of(2), "");
  Autoencoder net = seeded(model_options());
  Trainer trainer(net, images, train_options(1, 2), torch::kCPU);
  trainer.train_steps();
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
  EXPECT_EQ(message_of<std::runtime_error>([&] { train_epoch(trainer); }),
            "none of the 3 training images can be used");
  expect_identical(state_of(net), before);
}

}  // namespace
}  // namespace convae::test_training
