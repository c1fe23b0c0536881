#include "convae/inference/benchmark.h"
#include "convae/tests/support.h"

#include <nlohmann/json.hpp>

namespace convae::test_benchmark {
namespace {

BenchmarkOptions tiny() {
  BenchmarkOptions options;
  options.model.channels = 3;
  options.model.levels = parse_levels("4,8");
  options.train.batch_size = 2;
  options.size = {17, 20};
  options.device = "cpu";
  options.rounds = 3;
  return options;
}

TEST(BenchmarkTest, TimesArePositiveInEveryPrecision) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    BenchmarkOptions options = tiny();
    options.train.precision = precision;
    const BenchmarkResult result = benchmark(options);
    for (const double time : {result.training_step_ms, result.bare_convolutions_ms,
                              result.inference_ms, result.bare_forward_ms}) {
      EXPECT_GT(time, 0);
      EXPECT_TRUE(std::isfinite(time));
    }
    EXPECT_EQ(result.device, torch::kCPU);
    EXPECT_EQ(result.threads, 1);
  }
}

TEST(BenchmarkTest, MeasuresTrainingWhateverTheCallersMode) {
  BenchmarkOptions options = tiny();
  options.rounds = 1;
  const c10::InferenceMode mode;
  EXPECT_GT(benchmark(options).training_step_ms, 0);
}

TEST(BenchmarkTest, JsonSaysWhatWasMeasuredOnWhat) {
  BenchmarkResult result{.device = torch::kCPU, .threads = 2};
  result.training_step_ms = 6;
  result.bare_convolutions_ms = 4;
  result.inference_ms = 1;
  result.bare_forward_ms = 2;
  const auto json = nlohmann::json::parse(to_json(tiny(), result));
  EXPECT_EQ(json["input"], (std::vector<int>{2, 3, 17, 20}));
  EXPECT_EQ(json["device"], "cpu");
  EXPECT_EQ(json["training_step_ms"], 6);
  EXPECT_EQ(json["training_step_over_bare_convolutions"], 1.5);
  EXPECT_EQ(json["inference_over_bare_forward"], 0.5);
}

TEST(BenchmarkTest, RefusesWhatCannotBeMeasured) {
  BenchmarkOptions options = tiny();
  options.rounds = 0;
  EXPECT_TRUE(test::contains(test::message_of<OptionError>([&] { benchmark(options); }), "rounds"));
  options = tiny();
  options.model.levels = parse_levels("8:k7p0");
  options.size = {6, 6};
  EXPECT_THROW(benchmark(options), GeometryError);
  options = tiny();
  options.model.detector = {4};
  EXPECT_THROW(benchmark(options), OptionError);
  options = tiny();
  options.train.loss = parse_loss("ssim");
  options.size = {8, 8};
  EXPECT_THROW(benchmark(options), OptionError);
}

TEST(BenchmarkTest, StopsBetweenRounds) {
  int asked = 0;
  Callbacks callbacks;
  callbacks.should_stop = [&] { return ++asked > 4; };
  const std::string message = test::message_of<Interrupted>([&] { benchmark(tiny(), callbacks); });
  EXPECT_EQ(message, "stopped after 1 of 3 rounds");
}

}  // namespace
}  // namespace convae::test_benchmark
