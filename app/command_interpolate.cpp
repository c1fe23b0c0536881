#include "app/commands.h"
#include "app/inference.h"
#include "app/output_folder.h"
#include "data/file_io.h"
#include "data/image_writer.h"
#include "training/evaluation.h"
#include "training/pictures.h"

#include <spdlog/spdlog.h>

namespace convae::app {
namespace {

constexpr std::int64_t kMostSteps = 10'000;
constexpr std::int64_t kMostInStrip = 32;

torch::Tensor read_image(const std::string& path, const Options& options,
                         const ModelOptions& model) {
  try {
    return decode_image(read_file(path), static_cast<int>(model.channels), options.data.max_pixels);
  } catch (const ImageError& error) {
    throw std::runtime_error("'" + printable(path) + "': " + error.what());
  }
}

/// The size of the pictures: the model's own, --size, or that of the first image.
HW size_of_pictures(const Options& options, const ModelOptions& model, const torch::Tensor& first) {
  HW size = fixed_network_size(options, model);
  if (size.h == 0) size = {first.size(1), first.size(2)};
  if (const auto reason = why_impossible(model.level_specs(), size)) {
    throw UsageError("images of " + to_string(size) + ": " + *reason + "; set another --size");
  }
  return size;
}

}  // namespace

int run_interpolate(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
  require_given(options.run.output, "output", "-o between");
  if (line.images.size() != 2) {
    throw UsageError(
        "interpolate needs two images, such as: convae interpolate a.png b.png "
        "--checkpoint runs/latest -o between");
  }
  const std::int64_t steps = options.call.steps;
  if (steps < 2 || steps > kMostSteps) {
    throw UsageError("--steps '" + std::to_string(steps) + "': expected a number between 2 and " +
                     std::to_string(kMostSteps));
  }
  options.data.validate();
  const torch::Device device = choose_device(options.run.device);
  use_threads(options.run.threads);
  LoadedModel model = load_model(options.call.checkpoint, device);
  const ModelOptions& spec = model.info.model;
  const torch::Tensor first = read_image(line.images[0], options, spec);
  const torch::Tensor second = read_image(line.images[1], options, spec);
  const HW size = size_of_pictures(options, spec, first);
  OutputFolder output(options.run.output, options.call.overwrite);
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < steps; ++i) {
    names.push_back(output.reserve_exact(fmt::format("step_{:05}.png", i + 1)));
  }
  const std::string strip = output.reserve_exact("strip.png");
  torch::NoGradGuard no_grad;
  const auto latent_of = [&](const torch::Tensor& image) {
    const torch::Tensor resized = resize_image(image, size.h, size.w);
    return model.net->encoder->forward(
        to_model_range(to_float(resized.unsqueeze(0), device), spec.output));
  };
  const torch::Tensor from = latent_of(first);
  const torch::Tensor to = latent_of(second);
  stop_in_order();
  ImageWriter writer(worker_count(options.data));
  std::vector<torch::Tensor> pictures;
  const std::int64_t every = (steps + kMostInStrip - 1) / kMostInStrip;
  for (std::int64_t i = 0; i < steps; ++i) {
    if (stop_signal() != 0) {
      writer.finish();
      spdlog::warn("stopped after {} of {} images", i, steps);
      return 128 + stop_signal();
    }
    const double share = static_cast<double>(i) / static_cast<double>(steps - 1);
    const torch::Tensor latent = torch::lerp(from, to, share);
    const torch::Tensor picture =
        to_uint8(to_unit_range(model.net->decoder->forward(latent, size), spec.output)[0]);
    writer.write(output.prepare(names[static_cast<std::size_t>(i)]), picture, ImageFormat::png);
    if (i % every == 0 || i + 1 == steps) pictures.push_back(enlarge_small(picture));
  }
  writer.write(output.prepare(strip), row_of_pictures(pictures), ImageFormat::png);
  writer.finish();
  fmt::print("{} images of {} in {}, side by side in strip.png\n", steps, to_string(size),
             printable(output.root().string()));
  return kDone;
}

}  // namespace convae::app
