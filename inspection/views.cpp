#include "convae/inspection/views.h"

#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/core/parallel.h"

#include <c10/core/InferenceMode.h>
#include <torch/types.h>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <vector>

namespace convae {

torch::Tensor resize_map(const torch::Tensor& map, Size size) {
  if (Size{map.size(0), map.size(1)} == size) return map;
  return torch::upsample_bilinear2d(map.unsqueeze(0).unsqueeze(0), per_axis(size),
                                    /*align_corners=*/false)
      .view(per_axis(size));
}

namespace {

void require_memory(Size size, std::int64_t bytes_a_pixel, const char* way_out) {
  // What fitted once fits again, though the allocator keeps it.
  static std::atomic<std::int64_t> fitted = 0;
  const std::int64_t bytes = bytes_a_pixel * size.area();
  const std::int64_t free = free_memory_bytes();
  if (free == 0 || bytes <= std::max<std::int64_t>(free, fitted)) {
    fitted = std::max<std::int64_t>(fitted, bytes);
    return;
  }
  const auto needed = static_cast<double>(bytes);
  throw std::runtime_error(fmt::format(
      "to inspect an image of {} takes {:.1f} GB, but {:.1f} GB are free{}; {}", to_string(size),
      needed / 1e9, static_cast<double>(free) / 1e9, limit_text(needed), way_out));
}

}  // namespace

torch::Tensor alone(const torch::Tensor& image) {
  return image.permute({1, 2, 0})
      .clone(torch::MemoryFormat::Contiguous)
      .unsqueeze(0)
      .permute({0, 3, 1, 2});
}

SeenImage look_at(const Model& model, const torch::Tensor& input) {
  const c10::InferenceMode no_gradients;
  const torch::Tensor reconstruction = model.reconstruct(input);
  const torch::Tensor image = input[0].cpu(), residual = image - reconstruction[0].cpu();
  const auto brightness = image.mean().item<double>();
  SeenImage seen{{}, {image.size(1), image.size(2)}, residual.square().mean().item<double>()};
  Pyramid of_residual, of_detector, of_image;
  if (!model.options().detector.empty()) {
    of_detector = mean_maps(logits_of(model.detect(input, reconstruction)[0].cpu()));
  }
  parallel_for_each(2, [&](std::int64_t i) {
    (i == 0 ? of_residual : of_image) = texture_maps(i == 0 ? residual : image, brightness);
  });
  for (const Pyramid& maps : {of_residual, of_detector, of_image}) {
    seen.maps.insert(seen.maps.end(), maps.begin(), maps.end());
  }
  return seen;
}

ViewedImage view(const ModelFolder& folder, const MicroBatch& batch) {
  const torch::Tensor pixels = batch.images[0], input = folder.network_input(alone(pixels));
  ViewedImage image{look_at(folder.model(), input), batch.indices[0], pixels, input};
  require_finite(image.seen.mean_error, folder.name(image.index));
  return image;
}

void require_memory_for_view(Size size) {
  require_memory(size, kViewBytesAPixel, "resize with --size");
}

void require_memory_to_resize(Size own) {
  constexpr std::int64_t kBytesAPixel = 16;  // decoded, and the map; as measured, 11 to 16
  require_memory(own, kBytesAPixel, "make it smaller");
}

void require_memory_for_views(const ModelFolder& folder) {
  const std::vector<Size> sizes = folder.network_sizes();
  if (!sizes.empty()) require_memory_for_view(*std::ranges::max_element(sizes, {}, &Size::area));
}

}  // namespace convae
