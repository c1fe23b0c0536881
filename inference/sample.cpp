#include "convae/inference/sample.h"

#include "convae/core/errors.h"
#include "convae/data/pictures.h"
#include "convae/inference/folder.h"

#include <algorithm>
#include <cmath>

namespace convae {
namespace {

constexpr std::int64_t kMostSamples = 100'000;
constexpr std::int64_t kMostOnSheet = 64;

/// The size to draw at: the model's own, or the one asked for.
Size size_of_samples(Size asked, const ModelOptions& model) {
  const Size size = fixed_network_size(asked, model);
  if (!size) {
    throw OptionError(
        "--size is needed, such as --size 96: this model's images have no size of "
        "their own");
  }
  if (const auto reason = why_impossible(model.levels, size)) {
    throw OptionError("--size '" + to_string(size) + "': " + *reason);
  }
  return size;
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

DrawnPictures draw_samples(const Model& model, const SampleOptions& options,
                           const Callbacks& callbacks) {
  if (options.count < 1 || options.count > kMostSamples) {
    throw OptionError("--count '" + std::to_string(options.count) +
                      "': expected a number between 1 and " + std::to_string(kMostSamples));
  }
  model.require_variational();
  const Size size = size_of_samples(options.size, model.options());
  return draw(
      model,
      {.output = options.output,
       .overwrite = options.overwrite,
       .workers = options.workers,
       .prefix = "sample",
       .count = options.count,
       .size = size,
       .latent = [&](std::int64_t i) { return model.draw_latents(1, size, options.seed, i); },
       .sheet = "samples.png",
       .is_on_sheet = [](std::int64_t i) { return i < kMostOnSheet; },
       .arrange = contact_sheet},
      callbacks);
}

}  // namespace convae
