#pragma once

#include "convae/metrics/bootstrap.h"
#include "convae/metrics/pixel_metrics.h"
#include "convae/metrics/statistics.h"

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace convae::app {

/// The ways images are scored: the one that counts, and the controls that cost nothing.
enum Way : std::size_t {
  kNetwork,        ///< by the network's residual and the image
  kResidualAlone,  ///< by the residual alone: what of it the network does
  kNoNetwork,      ///< control: by the image alone
  kMeanError,      ///< control: mean squared error of the reconstruction
  kArea,           ///< control: pixels of the image
  kWays
};

/// One image that was scored.
struct ScoredImage {
  std::string name, label, group;
  std::array<double, kWays> scores{};
};

/// All that came of scoring a set.
struct Scores {
  std::vector<ScoredImage> images;
  std::array<std::vector<double>, kWays> good_scores;  ///< of the images calibrated on
  std::array<double, kWays> thresholds{};              ///< an image is anomalous above it
  double rate = 0;                                     ///< asked for, of good images above it
  std::int64_t good_groups = 0;                        ///< of the images calibrated on
  std::int64_t training_images = 0;                    ///< that places were learnt from
  std::int64_t skipped = 0;
  /// By label, of images with a mask and good ones; empty for ways without maps.
  std::array<std::map<std::string, PixelMetrics>, kWays> pixels;
  std::uint64_t seed = 0;  ///< of the bootstrap

  bool anomalous(const ScoredImage& image) const {
    return image.scores[kNetwork] > thresholds[kNetwork];
  }
};

/// How well images of known labels were told apart.
struct ImageResults {
  std::int64_t good = 0, anomalous = 0;
  double auroc = 0, average_precision = 0;
  Interval auroc_interval, average_precision_interval;
  Detections at_threshold;
  double pixel_auroc = 0, pro = 0;  ///< NaN where there are no masks
  std::int64_t regions = 0;
};

/// A value and where it may lie.
struct Estimate {
  double value = 0;
  Interval interval;
};

/// What is to be said about a set's scores.
class ScoreReport {
public:
  explicit ScoreReport(const Scores& scores);

  /// The content of summary.json.
  nlohmann::ordered_json json() const;

  /// The same for people, several lines.
  std::string table() const;

  /// What a reader must not overlook, a sentence each.
  std::vector<std::string> warnings() const;

private:
  ImageResults results(Way way, const std::string& kind) const;
  Interval difference_interval(Way control) const;
  Way strongest_control() const;
  double usefulness(Way way) const;
  bool labelled() const { return !kinds_.empty(); }
  std::int64_t anomalous_count() const;

  const Scores& scores_;
  std::vector<std::string> kinds_;               // of defects
  std::array<ImageResults, kWays> overall_;      // where labelled
  std::map<std::string, ImageResults> by_kind_;  // of the network
  Estimate area_correlation_;                    // of scores of good images
  std::array<Interval, kWays> lead_;             // of the network's AUROC over each control's
};

}  // namespace convae::app
