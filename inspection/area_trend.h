#pragma once

#include <torch/types.h>

#include <vector>

namespace convae {

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

  /// Peaks as they would be at the mean area: (channels) double.
  torch::Tensor without(const torch::Tensor& peaks, double log_area) const;

  /// (channels) double, undefined where there is none.
  const torch::Tensor& slopes() const { return slopes_; }

private:
  torch::Tensor slopes_;
  double centre_ = 0;
};

}  // namespace convae
