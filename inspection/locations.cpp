#include "inspection/locations.h"

#include <torch/nn/functional/pooling.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace convae {
namespace {

/// Neighbouring places share what they know, this far (σ, in places).
constexpr double kSmoothing = 1;
/// No place is held to be steadier than this share of the mean deviation: where good images happen
/// to leave nothing, a trace of something would count without end.
constexpr double kSteadiest = 0.1;
constexpr double kSmallestDeviation = 1e-9;

constexpr double kPeakShare = 0.001;

/// (H, W) → (kGrid, kGrid) double: means over areas, of a small map repeated values.
torch::Tensor at_places(const cv::Mat& map) {
  const torch::Tensor values = torch::from_blob(map.data, {1, map.rows, map.cols}, torch::kFloat);
  namespace F = torch::nn::functional;
  return F::adaptive_avg_pool2d(values, F::AdaptiveAvgPool2dFuncOptions(LocationStatistics::kGrid))
      .squeeze(0)
      .to(torch::kDouble);
}

/// One channel's (kGrid, kGrid) double, smoothed.
cv::Mat smoothed(const torch::Tensor& grid) {
  const cv::Mat view(LocationStatistics::kGrid, LocationStatistics::kGrid, CV_64FC1,
                     grid.data_ptr());
  cv::Mat result;
  cv::GaussianBlur(view, result, {}, kSmoothing, kSmoothing, cv::BORDER_REPLICATE);
  return result;
}

cv::Mat enlarged(const cv::Mat& grid, cv::Size size) {
  cv::Mat result;
  cv::resize(grid, result, size, 0, 0, cv::INTER_LINEAR);
  return result;
}

}  // namespace

double peak(const cv::Mat& map) {
  std::vector<float> values(map.begin<float>(), map.end<float>());
  const auto count = static_cast<std::size_t>(
      std::max(1.0, std::round(kPeakShare * static_cast<double>(values.size()))));
  const auto end = values.begin() + static_cast<std::ptrdiff_t>(count);
  std::nth_element(values.begin(), end - 1, values.end(), std::greater<>());
  return std::accumulate(values.begin(), end, 0.0) / static_cast<double>(count);
}

LocationStatistics::LocationStatistics(std::size_t channels, int folds) {
  const auto zeros = [&] {
    return torch::zeros({static_cast<std::int64_t>(channels), kGrid, kGrid}, torch::kDouble);
  };
  for (int fold = kTrainingFold; fold < folds; ++fold) folds_.push_back({zeros(), zeros(), 0});
  means_.resize(channels);
  deviations_.resize(channels);
}

void LocationStatistics::add(std::size_t channel, const cv::Mat& map, int fold) {
  torch::NoGradGuard no_grad;
  Sums& sums = folds_[static_cast<std::size_t>(fold - kTrainingFold)];
  const auto index = static_cast<std::int64_t>(channel);
  sums.values[index] += at_places(map);
  sums.squares[index] += at_places(map.mul(map));
}

void LocationStatistics::count(int fold) {
  ++folds_[static_cast<std::size_t>(fold - kTrainingFold)].images;
}

void LocationStatistics::prepare(int without_fold) {
  torch::Tensor values = torch::zeros_like(folds_[0].values);
  torch::Tensor squares = torch::zeros_like(values);
  std::int64_t images = 0;
  for (std::size_t i = 0; i < folds_.size(); ++i) {
    const int fold = static_cast<int>(i) + kTrainingFold;
    if (fold != kTrainingFold && fold == without_fold) continue;
    values += folds_[i].values;
    squares += folds_[i].squares;
    images += folds_[i].images;
  }
  const auto count = static_cast<double>(std::max<std::int64_t>(images, 1));
  for (std::size_t channel = 0; channel < means_.size(); ++channel) {
    const auto index = static_cast<std::int64_t>(channel);
    const cv::Mat mean = smoothed(values[index] / count);
    cv::Mat deviation = smoothed(squares[index] / count) - mean.mul(mean);
    cv::sqrt(cv::max(deviation, 0.0), deviation);
    deviation += kSteadiest * cv::mean(deviation)[0] + kSmallestDeviation;
    mean.convertTo(means_[channel], CV_32F);
    deviation.convertTo(deviations_[channel], CV_32F);
  }
}

cv::Mat LocationStatistics::standardise(std::size_t channel, const cv::Mat& map) const {
  return (map - enlarged(means_[channel], map.size())) / enlarged(deviations_[channel], map.size());
}

}  // namespace convae
