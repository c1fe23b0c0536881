#include "convae/inference/interpolate.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/data/image_io.h"
#include "convae/data/pictures.h"
#include "convae/inference/folder.h"

namespace convae {
namespace {

constexpr std::int64_t kMostSteps = 10'000;
constexpr std::int64_t kMostInStrip = 32;

torch::Tensor read_end(const std::filesystem::path& path, std::int64_t max_pixels,
                       const ModelOptions& model) {
  try {
    return decode_image(read_file(path), static_cast<int>(model.channels), max_pixels);
  } catch (const ImageError& error) {
    throw std::runtime_error(in_quotes(path) + ": " + error.what());
  }
}

/// The size of the pictures: the model's own, the one asked for, or that of the first image.
Size size_of_pictures(Size asked, const ModelOptions& model, const torch::Tensor& first) {
  Size size = fixed_network_size(asked, model);
  if (!size) size = {first.size(1), first.size(2)};
  if (const auto reason = why_impossible(model.levels, size)) {
    throw OptionError("images of " + to_string(size) + ": " + *reason + "; set another --size");
  }
  return size;
}

}  // namespace

DrawnPictures interpolate(const Model& model, const InterpolateOptions& options,
                          const Callbacks& callbacks) {
  const std::int64_t steps = options.steps;
  if (steps < 2 || steps > kMostSteps) {
    throw OptionError("--steps '" + std::to_string(steps) + "': expected a number between 2 and " +
                      std::to_string(kMostSteps));
  }
  const torch::Tensor first = read_end(options.from, options.max_pixels, model.options());
  const torch::Tensor last = read_end(options.to, options.max_pixels, model.options());
  const Size size = size_of_pictures(options.size, model.options(), first);
  const auto latent_of = [&](const torch::Tensor& image) {
    return model.encode(resize_image(image, size.h, size.w).unsqueeze(0));
  };
  const torch::Tensor from = latent_of(first);
  const torch::Tensor to = latent_of(last);
  const std::int64_t every = (steps + kMostInStrip - 1) / kMostInStrip;
  return draw(model,
              {.output = options.output,
               .overwrite = options.overwrite,
               .workers = options.workers,
               .prefix = "step",
               .count = steps,
               .size = size,
               .latent =
                   [&](std::int64_t i) {
                     return torch::lerp(from, to,
                                        static_cast<double>(i) / static_cast<double>(steps - 1));
                   },
               .sheet = "strip.png",
               .is_on_sheet = [&](std::int64_t i) { return i % every == 0 || i + 1 == steps; },
               .arrange = row_of_pictures},
              callbacks);
}

}  // namespace convae
