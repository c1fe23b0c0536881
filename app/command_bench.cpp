#include "app/bare_convolutions.h"
#include "app/commands.h"
#include "app/inference.h"
#include "app/level_table.h"
#include "training/evaluation.h"
#include "training/trainer.h"

#include <torch/cuda.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

namespace convae::app {
namespace {

using nlohmann::ordered_json;

constexpr int kWarmUpRounds = 3;

struct Measured {
  std::string name;
  std::function<void()> work;
  std::vector<double> milliseconds;

  double median() {
    const auto middle = milliseconds.begin() + std::ssize(milliseconds) / 2;
    std::nth_element(milliseconds.begin(), middle, milliseconds.end());
    return *middle;
  }
};

/// Runs all works in turn, round after round: a busy moment of the machine meets them alike.
void measure(std::vector<Measured>& all, std::int64_t rounds, torch::Device device) {
  using Clock = std::chrono::steady_clock;
  for (std::int64_t round = -kWarmUpRounds; round < rounds; ++round) {
    for (Measured& measured : all) {
      const auto start = Clock::now();
      measured.work();
      if (device.is_cuda()) torch::cuda::synchronize(device.index());
      const std::chrono::duration<double, std::milli> time = Clock::now() - start;
      if (round >= 0) measured.milliseconds.push_back(time.count());
      if (stop_signal() != 0) return;
    }
  }
}

}  // namespace

int run_bench(const CommandLine& line) {
  const Options& options = line.options;
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
  const std::int64_t threads = use_threads(options.run.threads);
  const std::int64_t images = options.train.batch_size;

  torch::manual_seed(options.train.seed);
  Autoencoder net(model);
  net->to(device);
  ImageDataset no_files({}, {});
  Trainer trainer(net, no_files, options.train, device);
  const torch::Tensor bytes =
      torch::randint(256, {images, input.channels, input.size.h, input.size.w}, torch::kByte)
          .contiguous(torch::MemoryFormat::ChannelsLast);
  const Step step = {{std::vector<std::int64_t>(static_cast<std::size_t>(images), 0), bytes}};
  const torch::Tensor unit = to_float(bytes, device);
  const BareConvolutions bare(
      model, images, input.size, device,
      options.train.precision == Precision::bf16 ? torch::kBFloat16 : torch::kFloat);

  std::vector<Measured> training = {
      {"training_step", [&] { trainer.train_step(step, options.train.lr); }, {}},
      {"bare_convolutions", [&] { bare.forward_and_backward(); }, {}}};
  std::vector<Measured> inference = {{"inference",
                                      [&] {
                                        torch::NoGradGuard no_grad;
                                        net->eval();
                                        net->forward(unit);
                                      },
                                      {}},
                                     {"bare_forward", [&] { bare.forward(); }, {}}};
  // One after the other: a training step leaves nothing of a small network in the caches.
  measure(inference, options.call.rounds, device);
  measure(training, options.call.rounds, device);
  if (stop_signal() != 0) return 128 + stop_signal();

  const double over = training[0].median() / training[1].median();
  const double over_forward = inference[0].median() / inference[1].median();
  std::vector<Measured> all = training;
  all.insert(all.end(), inference.begin(), inference.end());
  if (options.call.json) {
    ordered_json result;
    result["input"] = {images, input.channels, input.size.h, input.size.w};
    result["precision"] = to_string(options.train.precision);
    result["device"] = device.str();
    result["threads"] = threads;
    result["rounds"] = options.call.rounds;
    for (Measured& measured : all) result[measured.name + "_ms"] = measured.median();
    result["training_step_over_bare_convolutions"] = over;
    result["inference_over_bare_forward"] = over_forward;
    std::puts(result.dump().c_str());
    return kDone;
  }
  std::printf("%lld images of %s, %s, device %s, %lld compute threads; medians of %lld rounds\n\n",
              static_cast<long long>(images), shape_text(input.channels, input.size).c_str(),
              to_string(options.train.precision), device.str().c_str(),
              static_cast<long long>(threads), static_cast<long long>(options.call.rounds));
  std::printf("%-20s %10s %10s\n", "", "ms", "images/s");
  for (Measured& measured : all) {
    std::string name = measured.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    const double time = measured.median();
    std::printf("%-20s %10.2f %10.1f\n", name.c_str(), time,
                1000 * static_cast<double>(images) / time);
  }
  std::printf(
      "\ntraining step / bare convolutions  %.2f\ninference / bare forward           %.2f\n", over,
      over_forward);
  return kDone;
}

}  // namespace convae::app
