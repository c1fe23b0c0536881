#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/level_table.h"
#include "convae/inference/bare_convolutions.h"
#include "convae/training/autocast.h"
#include "convae/training/trainer.h"
#include "convae/training/validation.h"

#include <torch/cuda.h>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>

namespace convae::app {
namespace {

using nlohmann::ordered_json;

constexpr int kWarmUpRounds = 3;

struct Work {
  std::string name;
  std::function<void()> run;
};

struct Timing {
  std::string name;
  std::vector<double> milliseconds;

  double median() const {
    std::vector<double> sorted = milliseconds;
    const auto middle = sorted.begin() + std::ssize(sorted) / 2;
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
  }
};

/// The network's work, and its bare convolutions beside it.
using Pair = std::array<Timing, 2>;

double ratio(const Pair& pair) { return pair[0].median() / pair[1].median(); }

/// Runs both in turn, round after round: a busy moment of the machine meets them alike. Of `runs`
/// in a row the last is timed.
Pair measure(const std::array<Work, 2>& works, std::int64_t rounds, torch::Device device,
             int runs = 1) {
  using Clock = std::chrono::steady_clock;
  Pair pair{Timing{works[0].name, {}}, Timing{works[1].name, {}}};
  for (std::int64_t round = -kWarmUpRounds; round < rounds; ++round) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      Clock::time_point start;
      for (int run = 0; run < runs; ++run) {
        start = Clock::now();
        works[i].run();
        if (device.is_cuda()) torch::cuda::synchronize(device.index());
      }
      const std::chrono::duration<double, std::milli> time = Clock::now() - start;
      if (round >= 0) pair[i].milliseconds.push_back(time.count());
    }
  }
  return pair;
}

/// What is measured, on what.
struct Setting {
  ModelOptions model;
  TrainOptions train;
  Size size;
  torch::Device device = torch::kCPU;
  std::int64_t threads = 1;
  std::int64_t rounds = 1;
};

Setting read_setting(const Options& options) {
  const InputShape input =
      parse_input(options.call.input.empty() ? "3x192x192" : options.call.input);
  if (options.call.rounds < 1 || options.call.rounds > 100'000) {
    throw UsageError("--rounds '" + std::to_string(options.call.rounds) +
                     "': expected a number between 1 and 100000");
  }
  options.train.validate();
  ModelOptions model = options.model;
  model.channels = input.channels;
  if (model.latent > 0) model.size = input.size;
  model.validate();
  const torch::Device device = choose_device(options.run.device);
  return {model,
          options.train,
          input.size,
          device,
          use_threads(options.run.threads),
          options.call.rounds};
}

struct Results {
  Pair training, inference;
};

Results run_all(const Setting& setting) {
  torch::manual_seed(setting.train.seed);
  Autoencoder net(setting.model);
  net->to(setting.device);
  ImageDataset no_files({}, {});
  Trainer trainer(net, no_files, setting.train, setting.device);
  const std::int64_t images = setting.train.batch_size;
  const torch::Tensor bytes =
      torch::randint(256, {images, setting.model.channels, setting.size.h, setting.size.w},
                     torch::kByte)
          .contiguous(torch::MemoryFormat::ChannelsLast);
  const Step step = {{std::vector<std::int64_t>(static_cast<std::size_t>(images), 0), bytes}};
  const torch::Tensor unit = to_float(bytes, setting.device);
  const Precision precision = setting.train.precision;
  const BareConvolutions bare(setting.model, images, setting.size, setting.device,
                              precision == Precision::bf16 ? torch::kBFloat16 : torch::kFloat);
  const auto infer = [&] {
    torch::NoGradGuard no_grad;
    const Autocast autocast(setting.device, precision);
    net->eval();
    net->forward(unit);
  };
  // A training step leaves nothing of a small network in the caches, and bare convolutions leave
  // none of its maps: inference is timed behind itself, as in a program that does nothing else.
  Results results;
  results.inference =
      measure({Work{"inference", infer}, Work{"bare_forward", [&] { bare.forward(); }}},
              setting.rounds, setting.device, /*runs=*/2);
  results.training =
      measure({Work{"training_step", [&] { trainer.train_step(step, setting.train.lr); }},
               Work{"bare_convolutions", [&] { bare.forward_and_backward(); }}},
              setting.rounds, setting.device);
  return results;
}

void print_json(const Setting& setting, const Results& results) {
  ordered_json json;
  json["input"] = {setting.train.batch_size, setting.model.channels, setting.size.h,
                   setting.size.w};
  json["precision"] = to_string(setting.train.precision);
  json["device"] = setting.device.str();
  json["threads"] = setting.threads;
  json["rounds"] = setting.rounds;
  for (const Pair* pair : {&results.training, &results.inference}) {
    for (const Timing& timing : *pair) json[timing.name + "_ms"] = timing.median();
  }
  json["training_step_over_bare_convolutions"] = ratio(results.training);
  json["inference_over_bare_forward"] = ratio(results.inference);
  std::puts(json.dump().c_str());
}

void print_table(const Setting& setting, const Results& results) {
  const auto images = static_cast<double>(setting.train.batch_size);
  fmt::print("{} images of {}, {}, device {}, {} compute threads; medians of {} rounds\n\n",
             setting.train.batch_size, shape_text(setting.model.channels, setting.size),
             to_string(setting.train.precision), setting.device.str(), setting.threads,
             setting.rounds);
  fmt::print("{:<20} {:>10} {:>10}\n", "", "ms", "images/s");
  for (const Pair* pair : {&results.training, &results.inference}) {
    for (const Timing& timing : *pair) {
      std::string name = timing.name;
      std::replace(name.begin(), name.end(), '_', ' ');
      fmt::print("{:<20} {:>10.2f} {:>10.1f}\n", name, timing.median(),
                 1000 * images / timing.median());
    }
  }
  fmt::print("\ntraining step / bare convolutions  {:.2f}\n", ratio(results.training));
  fmt::print("inference / bare forward           {:.2f}\n", ratio(results.inference));
}

}  // namespace

int run_bench(const CommandLine& line) {
  const Setting setting = read_setting(line.options);
  const Results results = run_all(setting);
  if (line.options.call.json) {
    print_json(setting, results);
  } else {
    print_table(setting, results);
  }
  return kDone;
}

}  // namespace convae::app
