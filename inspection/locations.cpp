#include "convae/inspection/locations.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>
#include <span>

namespace convae {
namespace {

/// Neighbouring places share what they know, this far (σ, in places).
constexpr double kSmoothing = 1;
/// No place is held to be steadier than this share of the mean deviation: where good images happen
/// to leave nothing, a trace of something would count without end.
constexpr double kSteadiest = 0.1;
/// Below it there are only errors of rounding: channels are around 1, or 0.01 by brightness.
constexpr double kSmallestDeviation = 1e-5;

constexpr double kPeakShare = 0.001;

constexpr double kPixelsAPlace = 4;  // at the border
constexpr double kBorderPlaces = static_cast<double>(Places::kBorder) / kPixelsAPlace;

/// Where a pixel's centre is, from 0 to kPlaces.
double place_of(std::int64_t pixel, std::int64_t length) {
  const double at = static_cast<double>(pixel) + 0.5;
  const auto side = static_cast<double>(length);
  const double inner_places = Places::kPlaces - 2 * kBorderPlaces;
  const double inner_pixels = side - 2.0 * Places::kBorder;
  if (inner_pixels < inner_places) return at * Places::kPlaces / side;
  if (at < Places::kBorder) return at / kPixelsAPlace;
  if (at > side - Places::kBorder) return Places::kPlaces - (side - at) / kPixelsAPlace;
  return kBorderPlaces + (at - Places::kBorder) * inner_places / inner_pixels;
}

/// A view of a map: (H, W).
torch::Tensor as_tensor(const cv::Mat& map) {
  return torch::from_blob(map.data, {map.rows, map.cols}, torch::kFloat);
}

/// (H, W) → (kPlaces, kPlaces) double: means.
torch::Tensor at_places(const torch::Tensor& map, const LocationStatistics::Grid& grid) {
  return grid.rows.gather.matmul(map).matmul(grid.columns.gather.t()).to(torch::kDouble);
}

/// (kPlaces, kPlaces) → (H, W).
torch::Tensor at_pixels(const torch::Tensor& places, const LocationStatistics::Grid& grid) {
  return grid.rows.spread.matmul(places).matmul(grid.columns.spread.t());
}

/// One channel's (kPlaces, kPlaces) double, smoothed.
torch::Tensor smoothed(const torch::Tensor& places) {
  const torch::Tensor given = places.contiguous();
  torch::Tensor result = torch::empty_like(given);
  constexpr int kSide = Places::kPlaces;
  const cv::Mat from(kSide, kSide, CV_64FC1, given.data_ptr());
  cv::Mat to(kSide, kSide, CV_64FC1, result.data_ptr());
  cv::GaussianBlur(from, to, {}, kSmoothing, kSmoothing, cv::BORDER_REPLICATE);
  return result;
}

/// Values that are not below a bound which some `count` of them are likely to reach, found on a
/// sample: to order all of them for their highest thousandth takes ten times as long.
std::vector<float> above_sampled_bound(std::span<const float> values, std::size_t count) {
  constexpr std::size_t kStep = 16;
  std::vector<float> sample;
  for (std::size_t i = 0; i < values.size(); i += kStep) sample.push_back(values[i]);
  const std::size_t rank = std::min(2 * count / kStep + 8, sample.size() - 1);
  const auto at = sample.begin() + static_cast<std::ptrdiff_t>(rank);
  std::nth_element(sample.begin(), at, sample.end(), std::greater<>());
  std::vector<float> above;
  std::copy_if(values.begin(), values.end(), std::back_inserter(above),
               [bound = *at](float value) { return value >= bound; });
  return above;
}

}  // namespace

Places::Places(std::int64_t length)
    : gather(torch::zeros({kPlaces, length})), spread(torch::zeros({length, kPlaces})) {
  auto gathered = gather.accessor<float, 2>();
  auto spreading = spread.accessor<float, 2>();
  for (std::int64_t pixel = 0; pixel < length; ++pixel) {
    const double at = place_of(pixel, length);
    gathered[std::min(static_cast<std::int64_t>(at), kPlaces - 1)][pixel] = 1;
    const double centre = std::clamp(at - 0.5, 0.0, static_cast<double>(kPlaces - 1));
    const auto low = std::min(static_cast<std::int64_t>(centre), kPlaces - 2);
    const double share = centre - static_cast<double>(low);
    spreading[pixel][low] = static_cast<float>(1 - share);
    spreading[pixel][low + 1] = static_cast<float>(share);
  }
  for (std::int64_t place = 0; place < kPlaces; ++place) {
    const auto pixels = gather[place].sum().item<double>();
    if (pixels > 0) {
      gather[place] /= pixels;
    } else {
      // Only where a short side is divided evenly.
      gathered[place][static_cast<std::int64_t>((static_cast<double>(place) + 0.5) *
                                                static_cast<double>(length) / kPlaces)] = 1;
    }
  }
}

double peak(const cv::Mat& map) {
  const cv::Mat whole = map.isContinuous() ? map : map.clone();
  const std::span<const float> values(whole.ptr<float>(), whole.total());
  const auto count = static_cast<std::size_t>(
      std::max(1.0, std::round(kPeakShare * static_cast<double>(values.size()))));
  std::vector<float> highest = above_sampled_bound(values, count);
  if (highest.size() < count) highest.assign(values.begin(), values.end());
  const auto end = highest.begin() + static_cast<std::ptrdiff_t>(count);
  std::nth_element(highest.begin(), end - 1, highest.end(), std::greater<>());
  return std::accumulate(highest.begin(), end, 0.0) / static_cast<double>(count);
}

LocationStatistics::LocationStatistics(std::size_t channels, int folds) {
  const auto zeros = [&] {
    return torch::zeros({static_cast<std::int64_t>(channels), Places::kPlaces, Places::kPlaces},
                        torch::kDouble);
  };
  for (int fold = kTrainingFold; fold < folds; ++fold) folds_.push_back({zeros(), zeros(), 0});
  means_.resize(channels);
  deviations_.resize(channels);
}

void LocationStatistics::add(std::size_t channel, const cv::Mat& map, const Grid& grid, int fold) {
  torch::NoGradGuard no_grad;
  Sums& sums = folds_[static_cast<std::size_t>(fold - kTrainingFold)];
  const auto index = static_cast<std::int64_t>(channel);
  const torch::Tensor values = as_tensor(map);
  sums.values[index] += at_places(values, grid);
  sums.squares[index] += at_places(values.square(), grid);
}

void LocationStatistics::count(int fold) {
  ++folds_[static_cast<std::size_t>(fold - kTrainingFold)].images;
  left_out_.reset();
}

void LocationStatistics::prepare(int without_fold) {
  if (left_out_ == without_fold) return;
  left_out_ = without_fold;
  torch::NoGradGuard no_grad;
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
    const torch::Tensor mean = smoothed(values[index] / count);
    const torch::Tensor variance = smoothed(squares[index] / count) - mean.square();
    torch::Tensor deviation = variance.clamp_min(0).sqrt();
    deviation += kSteadiest * deviation.mean() + kSmallestDeviation;
    means_[channel] = mean.to(torch::kFloat);
    deviations_[channel] = deviation.to(torch::kFloat);
  }
}

cv::Mat LocationStatistics::standardise(std::size_t channel, const cv::Mat& map,
                                        const Grid& grid) const {
  torch::NoGradGuard no_grad;
  cv::Mat result(map.size(), CV_32F);
  torch::Tensor standardised = as_tensor(result);
  torch::sub_out(standardised, as_tensor(map), at_pixels(means_[channel], grid));
  standardised.div_(at_pixels(deviations_[channel], grid));
  return result;
}

torch::Tensor LocationStatistics::prepared() const {
  return torch::stack({torch::stack(means_), torch::stack(deviations_)});
}

void LocationStatistics::restore(const torch::Tensor& prepared) {
  means_ = prepared[0].unbind();
  deviations_ = prepared[1].unbind();
}

}  // namespace convae
