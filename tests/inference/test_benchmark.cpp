#include "convae/inference/benchmark.h"
#include "convae/tests/support.h"

namespace convae::test_benchmark {
namespace {

BenchmarkOptions tiny() {
  BenchmarkOptions options;
  options.model = test::small_network("4,8");
  options.train.batch_size = 2;
  options.size = {17, 20};
  options.device = "cpu";
  options.rounds = 3;
  return options;
}

TEST(BenchmarkTest, MeasuresTrainingWhateverTheCallersMode) {
  BenchmarkOptions options = tiny();
  options.rounds = 1;
  const c10::InferenceMode mode;
  EXPECT_GT(benchmark(options).training_step_ms, 0);
}

TEST(BenchmarkTest, RefusesWhatCannotBeMeasured) {
  BenchmarkOptions options = tiny();
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
