#include "convae/inspection/features.h"

#include "convae/data/mat.h"
#include "convae/models/gaussian.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>

namespace convae {
namespace {

/// (C, H, W) → the same, blurred; by OpenCV, as convolutions of one channel take several times as
/// long.
torch::Tensor blur(const torch::Tensor& planes, double sigma) {
  const torch::Tensor from = planes.contiguous().unsqueeze(3), to = torch::empty_like(from);
  const torch::Tensor kernel = gaussian_kernel(sigma).view({1, -1, 1});
  for (std::int64_t c = 0; c < from.size(0); ++c) {
    cv::Mat plane = mat_view(to[c]);
    cv::sepFilter2D(mat_view(from[c]), plane, CV_32F, mat_view(kernel), mat_view(kernel), {-1, -1},
                    0, cv::BORDER_REPLICATE);
  }
  return to.squeeze(3);
}

/// Half the difference of both neighbours; at an edge, of the pixel and its neighbour.
torch::Tensor gradient(const torch::Tensor& planes, int axis) {
  const std::int64_t last = planes.size(axis) - 1;
  const torch::Tensor next = torch::cat({planes.slice(axis, 1), planes.slice(axis, last)}, axis);
  const torch::Tensor previous =
      torch::cat({planes.slice(axis, 0, 1), planes.slice(axis, 0, last)}, axis);
  return (next - previous).abs() / 2;
}

template <typename Map>
Pyramid pyramid(torch::Tensor planes, const Map& map) {
  Pyramid maps;
  for (int level = 0; level < kPyramidLevels; ++level) {
    maps.push_back({map(planes), level});
    planes = next_level(planes);
  }
  return maps;
}

}  // namespace

torch::Tensor next_level(const torch::Tensor& planes) {
  return torch::avg_pool2d(planes, 2, 2, /*padding=*/0, /*ceil_mode=*/true,
                           /*count_include_pad=*/false);
}

torch::Tensor raw_maps(const torch::Tensor& planes) {
  const torch::Tensor fine = blur(planes, kFineBlur);
  const torch::Tensor rough = blur((planes - fine).square(), kRoughnessBlur).clamp_min(0).sqrt();
  return torch::stack({gradient(fine, 1), gradient(fine, 2), rough}).amax(1);  // of colours
}

torch::Tensor scaled_maps(const torch::Tensor& raw, const torch::Tensor& means, double brightness) {
  const torch::Tensor divisors = means.clamp_min(kSmallestMean).view({-1, 1, 1});
  return torch::cat({raw / divisors, raw / std::max(brightness, kSmallestMean)});
}

Pyramid texture_maps(const torch::Tensor& planes, double brightness) {
  return pyramid(planes, [&](const torch::Tensor& level) {
    const torch::Tensor raw = raw_maps(level);
    return scaled_maps(raw, raw.mean({1, 2}), brightness);
  });
}

Pyramid mean_maps(const torch::Tensor& map) {
  return pyramid(map, [](const torch::Tensor& level) { return level; });
}

}  // namespace convae
