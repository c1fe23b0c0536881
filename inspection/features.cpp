#include "convae/inspection/features.h"

#include "convae/models/gaussian.h"

#include <algorithm>
#include <cmath>

namespace convae {
namespace {

/// (C, H, W) → the same, blurred.
torch::Tensor blur(const torch::Tensor& planes, double sigma) {
  return blurred(planes.unsqueeze(1), gaussian_kernel(sigma)).squeeze(1);
}

/// Half the difference of both neighbours; at an edge, of the pixel and its neighbour.
torch::Tensor gradient(const torch::Tensor& planes, int axis) {
  const std::int64_t last = planes.size(axis) - 1;
  const torch::Tensor next = torch::cat({planes.slice(axis, 1), planes.slice(axis, last)}, axis);
  const torch::Tensor previous =
      torch::cat({planes.slice(axis, 0, 1), planes.slice(axis, 0, last)}, axis);
  return (next - previous).abs() / 2;
}

torch::Tensor halved(const torch::Tensor& planes) {
  return torch::avg_pool2d(planes, 2, 2, /*padding=*/0, /*ceil_mode=*/true,
                           /*count_include_pad=*/false);
}

torch::Tensor maps_of(const torch::Tensor& planes, double brightness) {
  const torch::Tensor fine = blur(planes, kFineBlur);
  const torch::Tensor above = fine - blur(planes, kSurroundingsBlur);
  const torch::Tensor rough = blur((planes - fine).square(), kSurroundingsBlur).clamp_min(0).sqrt();
  torch::Tensor maps = torch::stack(
      {above.clamp_min(0), (-above).clamp_min(0), gradient(fine, 1), gradient(fine, 2), rough});
  maps = maps.amax(1);  // of colours
  torch::Tensor means = maps.mean({1, 2}, /*keepdim=*/true);
  // The more there is of one, the less there may be of the other: they share theirs.
  const torch::Tensor both = means.slice(0, 0, 2).sum(0, /*keepdim=*/true);
  means = torch::cat({both, both, means.slice(0, 2)}).clamp_min(kSmallestMean);
  return torch::cat({maps / means, maps / std::max(brightness, kSmallestMean)});
}

template <typename Map>
Pyramid pyramid(torch::Tensor planes, const Map& map) {
  Pyramid maps;
  for (int level = 0; level < kPyramidLevels; ++level) {
    maps.push_back({map(planes), level});
    planes = halved(planes);
  }
  return maps;
}

}  // namespace

Pyramid texture_maps(const torch::Tensor& planes, double brightness) {
  return pyramid(planes, [&](const torch::Tensor& level) { return maps_of(level, brightness); });
}

Pyramid mean_maps(const torch::Tensor& map) {
  return pyramid(map, [](const torch::Tensor& level) { return level; });
}

}  // namespace convae
