#include "convae/tests/training/trainer_fixture.h"
#include "convae/training/rate_test.h"

#include <ATen/CPUGeneratorImpl.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace convae::test_training {
namespace {

/// 100 rates from 1e-5 to 1, and what `log_loss` says of their logarithms.
std::vector<RatePoint> curve_of(const std::function<double(double)>& log_loss) {
  std::vector<RatePoint> curve;
  for (int i = 0; i < 100; ++i) {
    const double power = -5 + 5.0 * i / 99;
    curve.push_back({std::pow(10, power), std::pow(10, log_loss(power))});
  }
  return curve;
}

/// Flat up to 1e-3, a tenth at 1e-1, then up again.
double falls_and_rises(double power) {
  return power < -3 ? 0 : power < -1 ? -(power + 3) / 2 : 2 * power + 1;
}

TrainOptions with(OptimizerKind optimizer, ScheduleKind schedule) {
  TrainOptions options;
  options.optimizer = optimizer;
  options.schedule = schedule;
  return options;
}

TEST(RateFromCurve, IsWhereMostOfTheFallIsDone) {
  const std::vector<RatePoint> curve = curve_of(falls_and_rises);
  const auto rate = [&](OptimizerKind optimizer, ScheduleKind schedule) {
    return rate_from(curve, with(optimizer, schedule)).value();
  };
  // Four fifths of the fall from 1e-3 to 1e-1; the smoothed curve does not fall quite as deep.
  const double peak = rate(OptimizerKind::adam, ScheduleKind::one_cycle);
  EXPECT_NEAR(std::log10(peak), -1.5, 0.15);
  EXPECT_EQ(rate(OptimizerKind::adamw, ScheduleKind::one_cycle), peak);
  EXPECT_NEAR(rate(OptimizerKind::adam, ScheduleKind::cosine), peak / 3, 0.05 * peak);
  EXPECT_NEAR(rate(OptimizerKind::sgd, ScheduleKind::one_cycle), 4 * peak, 0.2 * peak);
}

TEST(RateFromCurve, CountsForLessWhereStepsAreFew) {
  const std::vector<RatePoint> curve = curve_of(falls_and_rises);
  std::vector<RatePoint> few;
  for (std::size_t i = 0; i < curve.size(); i += 3) few.push_back(curve[i]);
  const TrainOptions options = with(OptimizerKind::adam, ScheduleKind::one_cycle);
  const double rate = rate_from(curve, options).value();
  EXPECT_NEAR(rate_from(few, options).value(), rate / 3, 0.25 * rate / 3);
}

TEST(RateFromCurve, NoiseMovesItLittle) {
  const torch::Tensor noise = test::gaussian({100}, 3);
  std::vector<RatePoint> curve = curve_of(falls_and_rises);
  const TrainOptions options = with(OptimizerKind::adam, ScheduleKind::one_cycle);
  const double clean = rate_from(curve, options).value();
  for (std::size_t i = 0; i < curve.size(); ++i) {
    curve[i].loss *= std::exp(0.2 * noise[static_cast<std::int64_t>(i)].item<double>());
  }
  const double noisy = rate_from(curve, options).value();
  EXPECT_LT(std::abs(std::log(noisy / clean)), std::log(1.5));
}

TEST(RateFromCurve, OfTrainedWeightsIsFarBelowWhereTheyGetWorse) {
  const auto rate = rate_from(curve_of([](double power) { return std::max(0.0, power + 2); }),
                              with(OptimizerKind::adam, ScheduleKind::one_cycle));
  ASSERT_TRUE(rate);
  EXPECT_GT(*rate, 1e-4);
  EXPECT_LT(*rate, 1e-2 / 4);
}

TEST(RateFromCurve, ThereIsNoneWhereTheCurveSaysNothing) {
  const TrainOptions options;
  EXPECT_FALSE(rate_from({}, options));
  EXPECT_FALSE(rate_from(curve_of([](double) { return 0; }), options));
  std::vector<RatePoint> few = curve_of(falls_and_rises);
  few.resize(5);
  EXPECT_FALSE(rate_from(few, options));
  // Chance alone, as of corruptions whose strength varies from step to step.
  const torch::Tensor noise = test::gaussian({25}, 5);
  std::vector<RatePoint> chance;
  for (std::int64_t i = 0; i < 25; ++i) {
    chance.push_back({1e-5 * std::pow(1.1, i), std::exp(0.9 * noise[i].item<double>())});
  }
  EXPECT_FALSE(rate_from(chance, options));
}

class RateTest : public TrainerTest {
protected:
  std::vector<RatePoint> test(const TrainOptions& options, const Callbacks& callbacks = {}) {
    return test_rates(net_, images_, options, torch::kCPU, /*workers=*/0,
                      Trainer::kMaxPixelsTogether, callbacks);
  }

  Autoencoder net_ = seeded(model_options());
};

TEST_F(RateTest, RatesRiseAndTheTrainingIsNotTouched) {
  const Tensors before = state_of(net_);
  const at::Generator generator = at::detail::getDefaultCPUGenerator();
  const torch::Tensor random = generator.get_state().clone();
  const std::vector<RatePoint> curve = test(train_options(1));
  EXPECT_GT(curve.size(), 50u);
  EXPECT_TRUE(std::ranges::is_sorted(curve, {}, &RatePoint::rate));
  EXPECT_NEAR(curve.front().rate, 1e-5, 1e-9);
  EXPECT_LT(std::ranges::min(curve, {}, &RatePoint::loss).loss, 0.5 * curve.front().loss);
  expect_identical(state_of(net_), before);
  EXPECT_TRUE(torch::equal(generator.get_state(), random));
  const std::vector<RatePoint> again = test(train_options(1));
  EXPECT_TRUE(std::ranges::equal(curve, again, {}, &RatePoint::loss, &RatePoint::loss));
}

TEST_F(RateTest, EndsWhereTheLossBlowsUp) {
  // Without normalisation, high rates are far too much.
  net_ = seeded(model_options(Norm::none));
  TrainOptions options = train_options(1);
  options.optimizer = OptimizerKind::sgd;
  const std::vector<RatePoint> curve = test(options);
  ASSERT_GT(curve.size(), 20u);
  EXPECT_LE(curve.back().rate, 101);
  for (const RatePoint& point : curve) EXPECT_TRUE(std::isfinite(point.loss));
}

TEST_F(RateTest, StopsWhereItIsAsked) {
  int asked = 0;
  Callbacks callbacks;
  callbacks.should_stop = [&] { return ++asked > 3; };
  EXPECT_TRUE(test(train_options(1), callbacks).empty());
  EXPECT_LT(asked, 12);
}

}  // namespace
}  // namespace convae::test_training
