#include "app/commands.h"
#include "app/inference.h"
#include "app/output_folder.h"
#include "data/file_io.h"
#include "data/image_writer.h"
#include "data/random.h"
#include "training/pictures.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randn.h>

#include <spdlog/spdlog.h>

#include <cmath>

namespace convae::app {
namespace {

constexpr std::int64_t kMostSamples = 100'000;
constexpr std::int64_t kMostOnSheet = 64;

/// The size to draw at: the model's own, or --size.
HW size_of_samples(const Options& options, const ModelOptions& model) {
  const HW size = fixed_network_size(options, model);
  if (size.h == 0) {
    throw UsageError(
        "--size is needed, such as --size 96: this model's images have no size of "
        "their own");
  }
  if (const auto reason = why_impossible(model.level_specs(), size)) {
    throw UsageError("--size '" + to_string(size) + "': " + *reason);
  }
  return size;
}

/// (N, D) or (N, c, h, w) from N(0, 1). One image's numbers depend on seed and image alone.
torch::Tensor draw_latent(const ModelOptions& model, HW size, std::uint64_t seed,
                          std::int64_t image) {
  std::vector<std::int64_t> shape = {1, model.latent};
  if (model.latent == 0) {
    const HW map = plan_sizes(model.level_specs(), size, model.channels).latent();
    shape = {1, model.latent_channels, map.h, map.w};
  }
  CounterRandom random(seed, /*epoch=*/0, static_cast<std::uint64_t>(image));
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
  LoadedModel model = load_model(options.call.checkpoint, device);
  const ModelOptions& spec = model.info.model;
  if (!spec.variational) {
    throw std::runtime_error("'" + printable(model.path.string()) +
                             "' is not variational, so nothing is known of how its latents are "
                             "distributed; train with --variational, or see convae interpolate");
  }
  const HW size = size_of_samples(options, spec);
  OutputFolder output(options.run.output, options.call.overwrite);
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < count; ++i) {
    names.push_back(output.reserve_exact(fmt::format("sample_{:05}.png", i + 1)));
  }
  const std::string sheet = output.reserve_exact("samples.png");
  torch::NoGradGuard no_grad;
  stop_in_order();
  ImageWriter writer(worker_count(options.data));
  std::vector<torch::Tensor> shown;
  for (std::int64_t i = 0; i < count; ++i) {
    if (stop_signal() != 0) {
      writer.finish();
      spdlog::warn("stopped after {} of {} images", i, count);
      return 128 + stop_signal();
    }
    const torch::Tensor latent = draw_latent(spec, size, options.train.seed, i).to(device);
    const torch::Tensor image =
        to_uint8(to_unit_range(model.net->decoder->forward(latent, size), spec.output)[0]);
    writer.write(output.prepare(names[static_cast<std::size_t>(i)]), image, ImageFormat::png);
    if (i < kMostOnSheet) shown.push_back(enlarge_small(image));
  }
  writer.write(output.prepare(sheet), contact_sheet(shown), ImageFormat::png);
  writer.finish();
  fmt::print("{} images of {} in {}, the first {} together in samples.png\n", count,
             to_string(size), printable(output.root().string()), shown.size());
  return kDone;
}

}  // namespace convae::app
