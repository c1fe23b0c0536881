#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/picture_series.h"
#include "convae/core/files.h"
#include "convae/core/random.h"
#include "convae/data/pictures.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randn.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace convae::app {
namespace {

constexpr std::int64_t kMostSamples = 100'000;
constexpr std::int64_t kMostOnSheet = 64;

/// The size to draw at: the model's own, or --size.
Size size_of_samples(const Options& options, const ModelOptions& model) {
  const Size size = fixed_network_size(options, model);
  if (size.h == 0) {
    throw UsageError(
        "--size is needed, such as --size 96: this model's images have no size of "
        "their own");
  }
  if (const auto reason = why_impossible(model.levels, size)) {
    throw UsageError("--size '" + to_string(size) + "': " + *reason);
  }
  return size;
}

/// (1, D) or (1, c, h, w) from N(0, 1). One image's numbers depend on seed and image alone.
torch::Tensor draw_latent(const ModelOptions& model, Size size, std::uint64_t seed,
                          std::int64_t image) {
  std::vector<std::int64_t> shape = model.latent_shape(size);
  shape.insert(shape.begin(), 1);
  CounterRandom random(seed, /*epoch=*/0, static_cast<std::uint64_t>(image), Purpose::sampling);
  return at::randn(shape, at::detail::createCPUGenerator(random.next()), torch::kFloat);
}

/// Images beside and below each other, as square as it gets.
torch::Tensor contact_sheet(const std::vector<torch::Tensor>& images) {
  const auto columns = static_cast<std::size_t>(std::ceil(std::sqrt(images.size())));
  std::vector<torch::Tensor> rows;
  for (std::size_t begin = 0; begin < images.size(); begin += columns) {
    const std::size_t end = std::min(images.size(), begin + columns);
    rows.push_back(row_of_pictures({images.begin() + static_cast<std::ptrdiff_t>(begin),
                                    images.begin() + static_cast<std::ptrdiff_t>(end)}));
  }
  return stack_pictures(rows);
}

}  // namespace

int run_sample(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
  require_given(options.run.output, "output", "-o samples");
  const std::int64_t count = options.call.count;
  if (count < 1 || count > kMostSamples) {
    throw UsageError("--count '" + std::to_string(count) + "': expected a number between 1 and " +
                     std::to_string(kMostSamples));
  }
  const torch::Device device = choose_device(options.run.device);
  use_threads(options.run.threads);
  Model model = load(options.call.checkpoint, options.run.device);
  const ModelOptions& spec = model.options();
  if (!spec.variational) {
    throw std::runtime_error(in_quotes(model.path()) +
                             " is not variational, so nothing is known of how its latents are "
                             "distributed; train with --variational, or see convae interpolate");
  }
  const Size size = size_of_samples(options, spec);
  return draw({.prefix = "sample",
               .count = count,
               .size = size,
               .latent =
                   [&](std::int64_t i) {
                     return draw_latent(spec, size, options.train.seed, i).to(device);
                   },
               .sheet = "samples.png",
               .is_on_sheet = [](std::int64_t i) { return i < kMostOnSheet; },
               .arrange = contact_sheet,
               .about_sheet = fmt::format("the first {} together in samples.png",
                                          std::min(count, kMostOnSheet))},
              options, model);
}

}  // namespace convae::app
