#pragma once

#include "convae/core/api.h"
#include "convae/metrics/bootstrap.h"

#include <cstdint>
#include <limits>
#include <vector>

namespace CONVAE_API convae {

/// A measure that does not exist, such as the AUROC of good images alone: NaN.
inline constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

/// Finite scores of images, higher for more anomalous ones, and whether each is known to be
/// anomalous.
struct ScoredImages {
  std::vector<double> scores;
  std::vector<bool> anomalous;

  std::size_t size() const { return scores.size(); }
  void add(double score, bool is_anomalous);
};

/// Area under the ROC curve: the probability that an anomalous image has a higher score than a good
/// one, equal scores counting half (Mann & Whitney 1947, https://doi.org/10.1214/aoms/1177730491).
/// In [0,1], 0.5 for scores that say nothing; NaN without images of both kinds.
double auroc(const ScoredImages& images);

/// Average precision: the precision at every distinct score, weighted by the recall gained there,
/// without interpolation. In [0,1]; NaN without an anomalous image.
double average_precision(const ScoredImages& images);

/// Scored images against a threshold: those with a higher score are found.
struct Detections {
  std::int64_t true_positives = 0, false_positives = 0, true_negatives = 0, false_negatives = 0;

  double precision() const;            ///< NaN where nothing was found, or without good images
  double recall() const;               ///< NaN without anomalous images
  double f1() const;                   ///< 2 TP / (2 TP + FP + FN); NaN unless both kinds are there
  double false_positive_rate() const;  ///< NaN without good images
};
Detections detections(const ScoredImages& images, double threshold);

/// The lowest of the scores that at most `rate` of good images of the same kind will exceed: the
/// k-th largest of n, k = floor(rate·(n + 1)) (split conformal prediction, Vovk et al. 2005), or
/// the largest where k = 0. NaN without scores.
double threshold_for_rate(std::vector<double> good_scores, double rate);

/// The lowest rate that threshold_for_rate() can promise with n scores: 1/(n + 1).
double smallest_rate(std::size_t good_scores);

/// Mean of values, such as one of each fold, and how far they spread; NaN values do not count.
struct Spread {
  std::size_t count = 0;
  double mean = kNoValue;
  double deviation = kNoValue;  ///< standard deviation of a sample; NaN for fewer than two
  double least = kNoValue, most = kNoValue;

  /// 95 % interval of the mean of such values (Student 1908, https://doi.org/10.2307/2331554); NaN
  /// for fewer than two.
  Interval interval() const;
};
Spread spread_of(std::vector<double> values);

/// Pearson's correlation; NaN where one side does not vary or there are fewer than two values.
double correlation(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace convae
