#include "convae/inspection/features.h"

#include "convae/data/mat.h"
#include "convae/models/gaussian.h"
#include "convae/models/pixels.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>

namespace convae {
namespace {

/// (1, size, 1)
torch::Tensor blur_of(double sigma) { return gaussian_kernel(sigma).view({1, -1, 1}); }

/// By OpenCV, as convolutions of one channel take several times as long.
cv::Mat blurred(const cv::Mat& plane, const torch::Tensor& kernel) {
  cv::Mat result;
  cv::sepFilter2D(plane, result, CV_32F, mat_view(kernel), mat_view(kernel), {-1, -1}, 0,
                  cv::BORDER_REPLICATE);
  return result;
}

/// Half the difference of both neighbours; at an edge, of the pixel and its neighbour.
cv::Mat gradient(const cv::Mat& plane, bool down) {
  cv::Mat result;
  cv::Sobel(plane, result, CV_32F, down ? 0 : 1, down ? 1 : 0, /*ksize=*/1, /*scale=*/0.5,
            /*delta=*/0, cv::BORDER_REPLICATE);
  return cv::abs(result);
}

template <typename MapsOf>
Pyramid pyramid(torch::Tensor planes, const MapsOf& maps_of) {
  Pyramid maps;
  for (int level = kFirstLevel; level < kLevelsEnd; ++level) {
    planes = next_level(planes);
    maps.push_back(maps_of(planes));
  }
  return maps;
}

}  // namespace

torch::Tensor next_level(const torch::Tensor& planes) {
  const torch::Tensor from = with_whole_blocks(planes, {2, 2}).contiguous().unsqueeze(3);
  const torch::Tensor halves =
      torch::empty({from.size(0), from.size(1) / 2, from.size(2) / 2, 1}, from.options());
  for (std::int64_t c = 0; c < from.size(0); ++c) {
    cv::Mat half = mat_view(halves[c]);
    cv::resize(mat_view(from[c]), half, half.size(), 0, 0, cv::INTER_AREA);  // means of 2x2 pixels
  }
  return halves.squeeze(3);
}

torch::Tensor LevelMaps::maps() const {
  return values.repeat({gains.size(0) / values.size(0), 1, 1}) * gains.view({-1, 1, 1});
}

torch::Tensor raw_maps(const torch::Tensor& planes) {
  static const torch::Tensor fine_blur = blur_of(kFineBlur), around = blur_of(kRoughnessBlur);
  const torch::Tensor from = planes.contiguous().unsqueeze(3);
  const torch::Tensor raw = torch::zeros({kRawMaps, planes.size(1), planes.size(2), 1});
  for (std::int64_t c = 0; c < from.size(0); ++c) {
    const cv::Mat plane = mat_view(from[c]), fine = blurred(plane, fine_blur);
    cv::Mat rough = plane - fine;
    cv::sqrt(blurred(rough.mul(rough), around), rough);
    const std::array maps = {gradient(fine, /*down=*/true), gradient(fine, /*down=*/false), rough};
    for (std::int64_t i = 0; i < kRawMaps; ++i) {
      cv::Mat largest = mat_view(raw[i]);
      cv::max(largest, maps[static_cast<std::size_t>(i)], largest);
    }
  }
  return raw.squeeze(3).sub_(kRounding).clamp_min_(0);
}

torch::Tensor texture_gains(const torch::Tensor& means, double brightness) {
  return 1 / torch::cat({means, torch::full_like(means, brightness)}).clamp_min(kSmallestMean);
}

Pyramid texture_maps(const torch::Tensor& planes, double brightness) {
  return pyramid(planes, [&](const torch::Tensor& level) {
    const torch::Tensor raw = raw_maps(level);
    return LevelMaps{raw, texture_gains(raw.mean({1, 2}), brightness)};
  });
}

torch::Tensor logits_of(const torch::Tensor& maps) {
  return maps.logit(/*eps=*/1 / (1 + std::exp(kMostLogit)));
}

Pyramid mean_maps(const torch::Tensor& map) {
  return pyramid(map, [](const torch::Tensor& level) {
    return LevelMaps{level, torch::ones({1})};
  });
}

torch::Tensor both_ends(const torch::Tensor& standardised) {
  if (standardised.size(0) != kTextureMaps) return standardised;
  return torch::cat({standardised, -standardised.slice(0, kRoughness, {}, kRawMaps)});
}

Peaks::Peaks(std::int64_t pixels, std::int64_t maps) : highest_(peak_count(maps)) {
  const auto count = std::llround(peak_share(maps) * static_cast<double>(pixels));
  count_ = static_cast<std::size_t>(std::max(1LL, count));
}

void Peaks::add(const torch::Tensor& maps) {
  for (std::size_t i = 0; i < highest_.size(); ++i) {
    const torch::Tensor map = maps[static_cast<std::int64_t>(i)].contiguous();
    auto& [values, lowest] = highest_[i];
    for (const float value :
         std::span(map.const_data_ptr<float>(), static_cast<std::size_t>(map.numel()))) {
      if (value <= lowest) continue;
      values.push_back(value);
      if (values.size() < 2 * count_) continue;
      std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2 - 1,
                               std::greater<>());
      values.resize(count_);
      lowest = values.back();
    }
  }
}

torch::Tensor Peaks::means() {
  std::vector<double> means;
  for (auto& [values, lowest] : highest_) {
    std::ranges::sort(values, std::greater<>());
    values.resize(std::min(values.size(), count_));
    means.push_back(std::accumulate(values.begin(), values.end(), 0.0) /
                    static_cast<double>(values.size()));
  }
  return torch::tensor(means, torch::kDouble);
}

}  // namespace convae
