#pragma once

#include <torch/types.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace convae {

/// The peaks of good images, and how far above them others are.
///
/// Peaks are standardised, and what is above the mean is measured as a Mahalanobis distance, so
/// that channels that always rise together count once. The covariance is shrunk towards a diagonal
/// as much as so few images need (Ledoit & Wolf 2004,
/// https://doi.org/10.1016/S0047-259X(03)00096-4). How uncertain it is, is seen from group to
/// group: six photographs of one part say little more than one.
class PeakModel {
public:
  /// One image shows no spread.
  static constexpr std::int64_t kFewestImages = 2;

  /// peaks: (images, channels) double; groups: which images belong together.
  /// Throws std::invalid_argument for fewer than kFewestImages.
  explicit PeakModel(const torch::Tensor& peaks, const std::vector<int>& groups);
  /// One that was learnt before.
  PeakModel(torch::Tensor mean, torch::Tensor deviation, torch::Tensor inverse)
      : mean_(std::move(mean)), deviation_(std::move(deviation)), inverse_(std::move(inverse)) {}

  /// (channels) double → the distance, over the root of the number of channels: 0 where no peak is
  /// above the mean of good images, 1 where independent ones are all one deviation above.
  double score(const torch::Tensor& peaks) const;

  /// (channels) double: mean peaks of good images.
  const torch::Tensor& mean() const { return mean_; }
  const torch::Tensor& deviation() const { return deviation_; }  ///< (channels) double
  const torch::Tensor& inverse() const { return inverse_; }      ///< (channels, channels) double

  /// Between 0, the covariance as it was found, and 1, none between channels.
  double shrinkage() const { return shrinkage_; }

private:
  torch::Tensor mean_, deviation_;  // (channels)
  torch::Tensor inverse_;           // (channels, channels), of the standardised peaks' covariance
  double shrinkage_ = 0;
};

/// How peaks of good images grow or fall with the image's size, so that it can be taken out again:
/// a large part must not count as a bad one. A straight line over the logarithm of the area, by
/// least squares, flattened by as much as it may be chance (the positive-part James-Stein factor of
/// one coefficient, 1 - 1/t²).
class AreaTrend {
public:
  /// Fewer images show no trend.
  static constexpr std::int64_t kFewestImages = 20;

  /// Images whose peaks may differ in level, such as those the network knows and those it does not,
  /// are separate sets: only their slopes are pooled.
  struct Set {
    torch::Tensor peaks;      ///< (images, channels) double
    torch::Tensor log_areas;  ///< (images) double
  };

  /// None.
  AreaTrend() = default;
  explicit AreaTrend(const std::vector<Set>& sets);
  /// One that was learnt before.
  AreaTrend(torch::Tensor slopes, double centre) : slopes_(std::move(slopes)), centre_(centre) {}

  /// Peaks as they would be at the mean area: (channels) double.
  torch::Tensor without(const torch::Tensor& peaks, double log_area) const;

  /// (channels) double, undefined where there is none.
  const torch::Tensor& slopes() const { return slopes_; }
  double centre() const { return centre_; }  ///< mean logarithm of the area

private:
  torch::Tensor slopes_;
  double centre_ = 0;
};

}  // namespace convae
