#include "convae/inspection/views.h"

#include "convae/core/errors.h"

#include <torch/nn/functional/upsampling.h>

namespace convae {

torch::Tensor resize_map(const torch::Tensor& map, Size size) {
  if (Size{map.size(0), map.size(1)} == size) return map;
  namespace F = torch::nn::functional;
  return F::interpolate(map.unsqueeze(0).unsqueeze(0), F::InterpolateFuncOptions()
                                                           .size(per_axis(size))
                                                           .mode(torch::kBilinear)
                                                           .align_corners(false))
      .view(per_axis(size));
}

torch::Tensor alone(const torch::Tensor& image) {
  return image.permute({1, 2, 0})
      .clone(torch::MemoryFormat::Contiguous)
      .unsqueeze(0)
      .permute({0, 3, 1, 2});
}

ViewedImage views_of(const torch::Tensor& input, const torch::Tensor& reconstruction) {
  const auto brightness = input.mean().item<double>();
  ViewedImage image;
  image.views.resize(kImageViews);
  image.views[kResidualView] = {input - reconstruction, brightness};
  image.views[kImageView] = {input - input.mean({1, 2}, /*keepdim=*/true), brightness};
  image.mean_error = image.views[kResidualView].values.square().mean().item<double>();
  return image;
}

void for_each_viewed(ModelFolder& folder, const std::string& stage, const std::string& what,
                     const Callbacks& callbacks,
                     const std::function<bool(const ViewedImage&)>& use) {
  bool enough = false;
  const auto use_batch = [&](const MicroBatch& batch) {
    for (std::int64_t i = 0; i < batch.images.size(0); ++i) {
      // Alone: in a batch the last bits of a convolution depend on how many images there are.
      const torch::Tensor input = folder.network_input(alone(batch.images[i]));
      ViewedImage image = views_of(input[0].cpu(), folder.model().reconstruct(input)[0].cpu());
      image.index = batch.indices[static_cast<std::size_t>(i)];
      image.pixels = batch.images[i];
      require_finite(image.mean_error, folder.name(image.index));
      enough = !use(image);
      // Looking at an image takes much longer than putting it through the network.
      if (enough || callbacks.stopped()) throw Interrupted("");
    }
  };
  try {
    folder.for_each(stage, use_batch);
  } catch (const Interrupted&) {
    if (!enough) {
      throw Interrupted("stopped while looking at " + what + "; no scores.csv was written");
    }
  }
}

}  // namespace convae
