#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/picture_series.h"
#include "convae/core/files.h"
#include "convae/data/pictures.h"
#include "convae/training/validation.h"

namespace convae::app {
namespace {

constexpr std::int64_t kMostSteps = 10'000;
constexpr std::int64_t kMostInStrip = 32;

torch::Tensor read_image(const std::string& path, const Options& options,
                         const ModelOptions& model) {
  try {
    return decode_image(read_file(path), static_cast<int>(model.channels), options.data.max_pixels);
  } catch (const ImageError& error) {
    throw std::runtime_error(in_quotes(path) + ": " + error.what());
  }
}

/// The size of the pictures: the model's own, --size, or that of the first image.
Size size_of_pictures(const Options& options, const ModelOptions& model,
                      const torch::Tensor& first) {
  Size size = fixed_network_size(options, model);
  if (size.h == 0) size = {first.size(1), first.size(2)};
  if (const auto reason = why_impossible(model.levels, size)) {
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
  Model model = load(options.call.checkpoint, options.run.device);
  const ModelOptions& spec = model.options();
  const torch::Tensor first = read_image(line.images[0], options, spec);
  const torch::Tensor second = read_image(line.images[1], options, spec);
  const Size size = size_of_pictures(options, spec, first);
  torch::NoGradGuard no_grad;
  const auto latent_of = [&](const torch::Tensor& image) {
    const torch::Tensor resized = resize_image(image, size.h, size.w);
    return encode_images(model.net(), to_float(resized.unsqueeze(0), device));
  };
  const torch::Tensor from = latent_of(first);
  const torch::Tensor to = latent_of(second);
  const auto latent = [&](std::int64_t i) {
    return torch::lerp(from, to, static_cast<double>(i) / static_cast<double>(steps - 1));
  };
  const std::int64_t every = (steps + kMostInStrip - 1) / kMostInStrip;
  const auto is_on_strip = [&](std::int64_t i) { return i % every == 0 || i + 1 == steps; };
  return draw({.prefix = "step",
               .count = steps,
               .size = size,
               .latent = latent,
               .sheet = "strip.png",
               .is_on_sheet = is_on_strip,
               .arrange = row_of_pictures,
               .about_sheet = "side by side in strip.png"},
              options, model);
}

}  // namespace convae::app
