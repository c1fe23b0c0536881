#pragma once

#include <torch/types.h>

#include <vector>

namespace convae {

/// Tells good images from ones with a fault by their features: for each kind of fault a logistic
/// regression against good images. The score is halfway between the largest logarithm of a
/// likelihood ratio, of the likeliest kind, and the mean over all kinds: a fault of a kind that
/// nobody has drawn is a little like several. No mean counts as more than kLargestGap below the
/// largest, so that what is plainly one kind passes for no good image by being unlike all others.
struct FaultClassifier {
  torch::Tensor weights;  ///< (kinds, features) double
  torch::Tensor biases;   ///< (kinds) double

  /// Variance of the prior of a weight: of many features that rise together, all get a little.
  static constexpr double kVariance = 8e-3;
  static constexpr double kLargestGap = 3;  ///< above what 95 % of good images have

  /// features: (images, features) double, standardised; kinds: of each image, 0 for a good one,
  /// else 1 …; weights are kept small as by a normal prior with `variances` (features) double. Good
  /// images and those of a kind weigh the same, however many there are of each.
  static FaultClassifier fit(const torch::Tensor& features, const std::vector<int>& kinds,
                             const torch::Tensor& variances);

  /// Of one image, (features) double.
  double score(const torch::Tensor& features) const;
};

}  // namespace convae
