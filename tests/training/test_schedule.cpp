#include "convae/tests/support.h"
#include "convae/training/schedule.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace convae::test_schedule {
namespace {

TrainOptions options_with(ScheduleKind schedule, double lr, std::int64_t warmup = 0,
                          double min_lr = 0) {
  TrainOptions options;
  options.schedule = schedule;
  options.lr = lr;
  options.warmup = warmup;
  options.min_lr = min_lr;
  return options;
}

TEST(LearningRate, ConstantStaysWhatItIs) {
  const TrainOptions options = options_with(ScheduleKind::constant, 0.3);
  for (const std::int64_t step : {0, 1, 50, 99, 1000}) {
    EXPECT_EQ(learning_rate(options, {step, 100}), 0.3);
  }
}

TEST(LearningRate, CosineFallsFromLrTowardsZero) {
  const TrainOptions options = options_with(ScheduleKind::cosine, 2);
  // (1 + cos(π t)) / 2 at t = 0, 1/4, 1/3, 1/2, 2/3, 3/4
  EXPECT_DOUBLE_EQ(learning_rate(options, {0, 12}), 2);
  EXPECT_NEAR(learning_rate(options, {3, 12}), 2 * 0.85355339059327376, 1e-12);
  EXPECT_NEAR(learning_rate(options, {4, 12}), 2 * 0.75, 1e-12);
  EXPECT_NEAR(learning_rate(options, {6, 12}), 2 * 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(options, {8, 12}), 2 * 0.25, 1e-12);
  EXPECT_NEAR(learning_rate(options, {9, 12}), 2 * 0.14644660940672624, 1e-12);
  for (std::int64_t step = 1; step < 12; ++step) {
    EXPECT_LT(learning_rate(options, {step, 12}), learning_rate(options, {step - 1, 12}));
    EXPECT_GT(learning_rate(options, {step, 12}), 0);
  }
}

TEST(LearningRate, CosineEndsAtMinLr) {
  const TrainOptions options = options_with(ScheduleKind::cosine, 1, 0, 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(options, {0, 10}), 1);
  EXPECT_NEAR(learning_rate(options, {5, 10}), 0.6, 1e-12);
  EXPECT_NEAR(learning_rate(options, {10, 10}), 0.2, 1e-12);
}

TEST(LearningRate, WarmupRisesLinearlyBeforeEitherSchedule) {
  for (const auto schedule : {ScheduleKind::cosine, ScheduleKind::constant}) {
    const TrainOptions options = options_with(schedule, 1, /*warmup=*/4);
    for (int step = 0; step < 4; ++step) {
      EXPECT_DOUBLE_EQ(learning_rate(options, {step, 20}), (step + 1) / 4.0);
    }
    EXPECT_DOUBLE_EQ(learning_rate(options, {4, 20}), 1);
  }
  // Half of the sixteen steps that are left
  EXPECT_NEAR(learning_rate(options_with(ScheduleKind::cosine, 1, 4), {12, 20}), 0.5, 1e-12);
}

TEST(LearningRate, WarmupRisesToWhatOneCycleBeginsWith) {
  const TrainOptions options = options_with(ScheduleKind::one_cycle, 1, /*warmup=*/4);
  for (std::int64_t step = 1; step < 34; ++step) {  // until 0.3 of the 100 steps that are left
    EXPECT_GE(learning_rate(options, {step, 104}), learning_rate(options, {step - 1, 104})) << step;
  }
  EXPECT_NEAR(learning_rate(options, {3, 104}), 1.0 / 25, 1e-12);
  EXPECT_NEAR(learning_rate(options, {34, 104}), 1, 1e-12);
}

TEST(LearningRate, WarmupMayBeLongerThanTheRun) {
  const TrainOptions options = options_with(ScheduleKind::cosine, 1, /*warmup=*/10);
  EXPECT_DOUBLE_EQ(learning_rate(options, {4, 5}), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(options_with(ScheduleKind::cosine, 1, 5), {5, 5}), 1);
}

TEST(TrainOptionsTest, DefaultsAreValid) { EXPECT_NO_THROW(TrainOptions{}.validate()); }

TEST(TrainOptionsTest, NameTheOptionItsValueAndWhatIsExpected) {
  const auto refusal = [](auto change) {
    TrainOptions options;
    change(options);
    return test::message_of<std::invalid_argument>([&] { options.validate(); });
  };
  EXPECT_EQ(refusal([](auto& o) { o.epochs = 0; }), "epochs must be at least 1, but is 0");
  EXPECT_EQ(refusal([](auto& o) { o.batch_size = -3; }),
            "batch-size must be at least 1, but is -3");
  EXPECT_EQ(refusal([](auto& o) { o.batch_size = std::numeric_limits<std::int64_t>::max(); }),
            "batch-size must be at most 1000000000, but is 9223372036854775807");
  EXPECT_EQ(refusal([](auto& o) { o.warmup = -1; }), "warmup must be at least 0, but is -1");
  EXPECT_EQ(refusal([](auto& o) { o.patience = -1; }), "patience must be at least 0, but is -1");
  EXPECT_EQ(refusal([](auto& o) { o.max_steps = -1; }), "max-steps must be at least 0, but is -1");
  EXPECT_EQ(refusal([](auto& o) { o.lr = -0.5; }), "lr must be at least 0, but is -0.5");
  EXPECT_EQ(refusal([](auto& o) { o.min_lr = -1; }), "min-lr must be at least 0, but is -1");
  EXPECT_EQ(refusal([](auto& o) { o.weight_decay = -1; }),
            "weight-decay must be at least 0, but is -1");
  EXPECT_EQ(refusal([](auto& o) { o.clip_grad = std::numeric_limits<double>::infinity(); }),
            "clip-grad must be at least 0, but is inf");
  EXPECT_EQ(refusal([](auto& o) { o.lr = std::numeric_limits<double>::quiet_NaN(); }),
            "lr must be at least 0, but is nan");
}

TEST(LearningRate, StepFallsEverySoManyEpochs) {
  TrainOptions options = options_with(ScheduleKind::step, 2);
  options.lr_epochs = 3;
  options.lr_factor = 0.5;
  for (const auto& [epoch, expected] :
       std::vector<std::pair<std::int64_t, double>>{{0, 2}, {2, 2}, {3, 1}, {5, 1}, {6, 0.5}}) {
    EXPECT_DOUBLE_EQ(learning_rate(options, {epoch * 10, 100, epoch}), expected);
  }
}

TEST(LearningRate, PlateauFallsAsOftenAsProgressStopped) {
  TrainOptions options = options_with(ScheduleKind::plateau, 2, 0, /*min_lr=*/0.3);
  options.lr_factor = 0.5;
  for (const auto& [falls, expected] :
       std::vector<std::pair<std::int64_t, double>>{{0, 2}, {1, 1}, {2, 0.5}, {3, 0.3}, {9, 0.3}}) {
    EXPECT_DOUBLE_EQ(learning_rate(options, {50, 100, 5, falls}), expected);
  }
}

/// Against torch.optim.lr_scheduler.OneCycleLR(max_lr=2, total_steps=N, final_div_factor=inf),
/// whose last step is N-1 where ours would be N.
TEST(LearningRate, OneCycleRisesAndFallsAlongCosines) {
  const TrainOptions options = options_with(ScheduleKind::one_cycle, 2);
  EXPECT_NEAR(learning_rate(options, {0, 100}), 2.0 / 25, 1e-12);
  EXPECT_NEAR(learning_rate(options, {15, 100}), (2.0 / 25 + 2) / 2, 1e-12);
  EXPECT_NEAR(learning_rate(options, {30, 100}), 2, 1e-12);
  EXPECT_NEAR(learning_rate(options, {65, 100}), 1, 1e-12);
  EXPECT_NEAR(learning_rate(options, {100, 100}), 0, 1e-12);
  for (std::int64_t step = 1; step < 100; ++step) {
    const double change =
        learning_rate(options, {step, 100}) - learning_rate(options, {step - 1, 100});
    EXPECT_EQ(change > 0, step <= 30) << step;
  }
}

}  // namespace
}  // namespace convae::test_schedule
