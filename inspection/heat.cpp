#include "convae/inspection/heat.h"

#include "convae/data/mat.h"
#include "convae/inspection/classifier.h"
#include "convae/inspection/views.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <array>

namespace convae {
namespace {

constexpr std::int64_t kPixelsOfAKind = 32;  // of an image
// Of a label: what lies between is neither.
constexpr double kChanged = 0.5, kUnchanged = 0.05;
// Maps see a defect from so many pixels beside it.
constexpr int kBeside = 4;
constexpr double kStrongest = 0.999;  // share of good pixels that are below 1
// Variance of each weight's prior, a detector's too.
constexpr double kVariance = 1e-2;
constexpr double kSmallestScale = 1e-6;

torch::Tensor logarithms(const torch::Tensor& maps) {
  return maps.clamp(0, kMostDeviations).log1p();
}

/// (n, 2) int64: rows and columns of some of the pixels where `where` (H, W) is, evenly spread.
torch::Tensor some_of(const torch::Tensor& where) {
  const torch::Tensor all = where.nonzero();
  if (all.size(0) <= kPixelsOfAKind) return all;
  const double step = static_cast<double>(all.size(0)) / kPixelsOfAKind;
  const torch::Tensor nth = (torch::arange(kPixelsOfAKind, torch::kDouble) + 0.5) * step;
  return all.index_select(0, nth.to(torch::kLong));
}

}  // namespace

SampledPixels SampledPixels::of(const StandardisedMaps& maps, Size size,
                                const torch::Tensor& label) {
  const torch::Tensor drawn = label.defined() ? label.contiguous() : torch::zeros(per_axis(size));
  const torch::Tensor around = torch::empty_like(drawn);  // the largest of the pixels beside
  cv::Mat largest = mat_view(around.unsqueeze(2));
  const int side = 2 * kBeside + 1;
  cv::dilate(mat_view(drawn.unsqueeze(2)), largest, cv::Mat::ones(side, side, CV_8U));
  const torch::Tensor defect = some_of(drawn > kChanged), good = some_of(around < kUnchanged);
  const torch::Tensor pixels = torch::cat({defect, good});
  std::vector<torch::Tensor> rows;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const torch::Tensor at = pixels.bitwise_right_shift(level_of(i));
    rows.push_back(
        both_ends(maps[i].index({torch::indexing::Slice(), at.select(1, 0), at.select(1, 1)})));
  }
  std::vector<int> defects(static_cast<std::size_t>(defect.size(0)), 1);
  defects.resize(static_cast<std::size_t>(pixels.size(0)), 0);
  return {torch::cat(rows).t().contiguous(), defects};
}

HeatMap HeatMap::fit(const SampledPixels& pixels, std::int64_t first, std::int64_t count) {
  torch::Tensor weights = torch::zeros({pixels.maps.size(1)}), bias = torch::zeros({1});
  const auto defects = std::ranges::count(pixels.defects, 1);
  if (defects == 0 || defects == std::ssize(pixels.defects)) return {weights, bias};

  const torch::Tensor seen = logarithms(pixels.maps.narrow(1, first, count)).to(torch::kDouble);
  const FaultClassifier classifier =
      FaultClassifier::fit(seen, pixels.defects, torch::full({count}, kVariance, torch::kDouble));
  const torch::Tensor ratios = (seen.matmul(classifier.weights.t()) + classifier.biases).flatten();
  const torch::Tensor good = ratios.index({torch::tensor(pixels.defects) == 0});
  const torch::Tensor usual = good.median();
  const torch::Tensor scale = (good.quantile(kStrongest) - usual).clamp_min(kSmallestScale);
  weights.narrow(0, first, count).copy_(classifier.weights[0] / scale);
  bias.copy_((classifier.biases - usual) / scale);
  return {weights, bias};
}

torch::Tensor HeatMap::of(const StandardisedMaps& maps, Size size) const {
  std::array<torch::Tensor, kPyramidLevels> of_levels;  // to be resized once each
  std::int64_t first = 0;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const torch::Tensor all = both_ends(maps[i]), share = share_of(all, first);
    first += all.size(0);
    torch::Tensor& sum = of_levels[i % kPyramidLevels];
    if (share.defined()) sum = sum.defined() ? sum + share : share;
  }
  torch::Tensor heat = bias.expand(per_axis(size)).clone();
  for (const torch::Tensor& share : of_levels) {
    if (share.defined()) heat += resize_map(share, size);
  }
  return heat.clamp_(0, kMost);
}

torch::Tensor HeatMap::share_of(const torch::Tensor& maps, std::int64_t first) const {
  const torch::Tensor of_maps = weights.narrow(0, first, maps.size(0));
  if (!of_maps.any().item<bool>()) return {};
  return of_maps.matmul(logarithms(maps).flatten(1)).view({maps.size(1), maps.size(2)});
}

}  // namespace convae
