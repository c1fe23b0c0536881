#include "convae/app/commands/commands.h"
#include "convae/app/output/logging.h"
#include "convae/core/machine.h"
#include "convae/inference/benchmark.h"
#include "convae/models/plan_text.h"

#include <fmt/format.h>

#include <cstdio>

namespace convae::app {
namespace {

void print_table(const BenchmarkOptions& options, const BenchmarkResult& result) {
  fmt::print("{} images of {}, {}, device {}, {} compute threads; medians of {} rounds\n\n",
             options.train.batch_size, shape_text(options.model.channels, options.size),
             to_string(result.precision), result.device.str(), result.threads, options.rounds);
  fmt::print("{:<20} {:>10} {:>10}\n", "", "ms", "images/s");
  const auto images = static_cast<double>(options.train.batch_size);
  const auto row = [&](const char* name, double ms) {
    fmt::print("{:<20} {:>10.2f} {:>10.1f}\n", name, ms, 1000 * images / ms);
  };
  row("training step", result.training_step_ms);
  row("bare convolutions", result.bare_convolutions_ms);
  row("inference", result.inference_ms);
  row("bare forward", result.bare_forward_ms);
  fmt::print("\ntraining step / bare convolutions  {:.2f}\n", result.training_over_bare());
  fmt::print("inference / bare forward           {:.2f}\n", result.inference_over_bare());
}

}  // namespace

int run_bench(const CommandLine& line) {
  const Options& given = line.options;
  BenchmarkOptions options{.model = given.model,
                           .train = given.train,
                           .device = given.run.device,
                           .rounds = given.call.rounds};
  options.size =
      set_input(options.model, given.call.input.empty() ? "3x192x192" : given.call.input);
  options.train.precision = given.call.precision;
  use_threads(given.run.threads);
  const BenchmarkResult result = benchmark(options, program_callbacks(given.run));
  if (given.call.json) {
    std::puts(to_json(options, result).c_str());
  } else {
    print_table(options, result);
  }
  return kDone;
}

}  // namespace convae::app
