#include "convae/inference/benchmark.h"

#include "convae/core/device.h"
#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/core/stopwatch.h"
#include "convae/metrics/bootstrap.h"
#include "convae/metrics/similarity.h"
#include "convae/models/autoencoder.h"
#include "convae/models/pixels.h"
#include "convae/training/memory.h"
#include "convae/training/precision.h"
#include "convae/training/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <c10/core/InferenceMode.h>
#include <torch/cuda.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace convae {
namespace {

/// The convolutions of an autoencoder and nothing else, on random numbers of the right shapes,
/// channels-last.
class BareConvolutions {
public:
  BareConvolutions(const BenchmarkOptions& options, torch::Device device) {
    const ModelOptions& model = options.model;
    const Plan plan = plan_sizes(model.levels, options.size, model.channels);
    const auto type = options.train.precision == Precision::bf16 ? torch::kBFloat16 : torch::kFloat;
    const auto random = [&](std::initializer_list<std::int64_t> shape) {
      return torch::randn(shape, torch::TensorOptions(device).dtype(type));
    };
    const std::int64_t images = options.train.batch_size;
    for (std::size_t i = 0; i < model.levels.size(); ++i) {
      const LevelPlan& level = plan.levels[i];
      const LevelSpec& spec = model.levels[i];
      const torch::Tensor outer = random({images, level.in_channels, level.in.h, level.in.w});
      const torch::Tensor inner = random({images, level.out_channels, level.out.h, level.out.w});
      const auto add = [&](const LevelSpec& spec, const torch::Tensor& input,
                           const torch::Tensor& gradient, bool transposed) {
        const torch::Tensor& wide = transposed ? gradient : input;
        convolutions_.push_back({input.contiguous(layout_of(spec)),
                                 random({spec.channels, wide.size(1), spec.kernel.h, spec.kernel.w})
                                     .contiguous(layout_of(spec)),
                                 gradient.contiguous(layout_of(spec)), per_axis(spec.stride),
                                 per_axis(spec.padding), per_axis(spec.dilation),
                                 per_axis(transposed ? level.output_padding : Size{}), transposed});
      };
      const std::int64_t encoders = model.linear == Linear::pca ? 2 : 1;
      for (std::int64_t k = 0; k < encoders; ++k) add(spec, outer, inner, /*transposed=*/false);
      add(spec, inner, outer, /*transposed=*/true);
      for (std::int64_t k = 0; k < 2 * (encoders + 1) * spec.residual_blocks; ++k) {  // two a block
        add(keeping_size(spec.channels), inner, inner, /*transposed=*/false);
      }
    }
  }

  /// All forward convolutions.
  void forward() const {
    const torch::NoGradGuard no_grad;
    for (const Convolution& c : convolutions_) {
      at::convolution(c.input, c.weight, /*bias=*/{}, c.stride, c.padding, c.dilation, c.transposed,
                      c.output_padding, /*groups=*/1);
    }
  }

  /// Those, their weight gradients and, but for the first level, their input gradients.
  void forward_and_backward() const {
    forward();
    const torch::NoGradGuard no_grad;
    for (std::size_t i = 0; i < convolutions_.size(); ++i) {
      const Convolution& c = convolutions_[i];
      at::convolution_backward(c.gradient, c.input, c.weight, /*bias_sizes=*/{}, c.stride,
                               c.padding, c.dilation, c.transposed, c.output_padding, /*groups=*/1,
                               /*output_mask=*/{i > 0, true, false});
    }
  }

private:
  struct Convolution {
    torch::Tensor input, weight, gradient;
    std::vector<std::int64_t> stride, padding, dilation, output_padding;
    bool transposed;
  };
  std::vector<Convolution> convolutions_;
};

/// Two works to compare.
using Works = std::array<std::function<void()>, 2>;

/// Their medians in milliseconds. They run in turn, round after round: a busy moment of the machine
/// meets both alike. Of `runs` in a row the last is timed.
std::pair<double, double> median_times(const Works& works, int runs, torch::Device device,
                                       std::int64_t rounds, const Callbacks& callbacks) {
  constexpr int kWarmUpRounds = 3;
  std::array<std::vector<double>, 2> times;
  for (std::int64_t round = -kWarmUpRounds; round < rounds; ++round) {
    if (callbacks.stopped()) {
      throw Interrupted("stopped after " + std::to_string(times[0].size()) + " of " +
                        std::to_string(rounds) + " rounds");
    }
    for (std::size_t i = 0; i < works.size(); ++i) {
      Stopwatch watch;
      for (int run = 0; run < runs; ++run) {
        watch.restart();
        works[i]();
        if (device.is_cuda()) torch::cuda::synchronize(device.index());
      }
      if (round >= 0) times[i].push_back(1000 * watch.seconds());
    }
  }
  return {quantile(times[0], 0.5), quantile(times[1], 0.5)};
}

void check(const BenchmarkOptions& options) {
  require_option(
      options.rounds >= 1 && options.rounds <= 100'000,
      "--rounds '" + std::to_string(options.rounds) + "': expected a number between 1 and 100000");
  options.train.validate();
  require_option(options.train.batch_size > 0, "batch-size must be at least 1, but is 0");
  options.model.validate();
  require_option(options.model.detector.empty(),
                 "detector: a benchmark measures the autoencoder; leave the detector out");
  require_option(
      !needs_window(options.train.loss) ||
          std::min(options.size.h, options.size.w) >= kSimilarityWindow,
      "loss " + to_string(options.train.loss) + " needs images with sides of at least 11 pixels");
}

/// The OOM killer leaves no message.
void require_memory(const BenchmarkOptions& options) {
  const std::int64_t free_bytes = free_memory_bytes();
  require_memory_for_weights(options.model, free_bytes);
  const auto needed = static_cast<double>(
      bytes_for_batches(options.model, options.train, {{options.size, options.train.batch_size}}));
  if (free_bytes == 0 || needed <= free_bytes) return;
  throw std::runtime_error(fmt::format(
      "a training step of {} images of {} needs {:.1f} GB, but {:.1f} GB are free; use a "
      "smaller batch-size, input or number of channels",
      options.train.batch_size, to_string(options.size), needed / 1e9, free_bytes / 1e9));
}

}  // namespace

BenchmarkResult benchmark(const BenchmarkOptions& given, const Callbacks& callbacks) {
  check(given);
  const c10::InferenceMode with_gradients(false);  // whatever the caller's mode
  const torch::Device device = choose_device(given.device);
  BenchmarkOptions options = given;
  options.train.precision = choose_precision(given.train.precision, given.model, device, callbacks);
  if (device.is_cpu()) require_memory(options);
  Autoencoder net(options.model);
  net->to(device);
  prepare_device(device, options.train.precision, options.train.deterministic, /*one_size=*/true);
  ImageDataset no_files({}, {});
  Trainer trainer(net, no_files, options.train, device);
  const std::int64_t images = options.train.batch_size;
  const torch::Tensor bytes =
      torch::randint(256, {images, options.model.channels, options.size.h, options.size.w},
                     torch::kByte)
          .contiguous(torch::MemoryFormat::ChannelsLast)
          .to(device);  // where a run's images are when a step begins
  const Step step = {{std::vector<std::int64_t>(static_cast<std::size_t>(images), 0), bytes}};
  const torch::Tensor unit = to_float(bytes, device);
  const BareConvolutions bare(options, device);
  const auto infer = [&] {
    const torch::NoGradGuard no_grad;
    const Autocast autocast(device, options.train.precision);
    net->eval();
    net->forward(unit);
  };
  const auto train = [&] { trainer.train_step(step, options.train.lr); };
  BenchmarkResult result{
      .device = device, .precision = options.train.precision, .threads = at::get_num_threads()};
  // A training step leaves nothing of a small network in the caches, and bare convolutions leave
  // none of its maps: inference is timed behind itself, as in a program that does nothing else.
  std::tie(result.inference_ms, result.bare_forward_ms) =
      median_times({infer, [&] { bare.forward(); }}, /*runs=*/2, device, options.rounds, callbacks);
  std::tie(result.training_step_ms, result.bare_convolutions_ms) =
      median_times({train, [&] { bare.forward_and_backward(); }},
                   /*runs=*/1, device, options.rounds, callbacks);
  return result;
}

std::string to_json(const BenchmarkOptions& options, const BenchmarkResult& result) {
  const nlohmann::ordered_json json = {
      {"input", {options.train.batch_size, options.model.channels, options.size.h, options.size.w}},
      {"precision", to_string(result.precision)},
      {"device", result.device.str()},
      {"threads", result.threads},
      {"rounds", options.rounds},
      {"training_step_ms", result.training_step_ms},
      {"bare_convolutions_ms", result.bare_convolutions_ms},
      {"inference_ms", result.inference_ms},
      {"bare_forward_ms", result.bare_forward_ms},
      {"training_step_over_bare_convolutions", result.training_over_bare()},
      {"inference_over_bare_forward", result.inference_over_bare()}};
  return json.dump();
}

}  // namespace convae
