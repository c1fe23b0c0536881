#pragma once

#include "convae/core/api.h"
#include "convae/data/folder.h"
#include "convae/metrics/bootstrap.h"
#include "convae/metrics/pixel_metrics.h"
#include "convae/metrics/statistics.h"
#include "convae/training/options.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

/// What comes of scoring a folder, and how good that is.
namespace CONVAE_API convae {

/// The ways images are scored: the one that counts, and what it has to beat.
enum Way : std::size_t {
  kNetwork,        ///< by the network's residual and the image
  kResidualAlone,  ///< by the residual alone: what of it the network does
  kNoNetwork,      ///< control: by the image alone
  kMeanError,      ///< control: mean squared error of the reconstruction
  kArea,           ///< control: pixels of the image
  kWays
};
/// Those with maps. They are the first, so that arrays of what they have are indexed by them.
constexpr auto kMappedWays = std::to_array({kNetwork, kResidualAlone, kNoNetwork});
static_assert(kMappedWays.size() == kMeanError);
constexpr auto kControls = std::to_array({kNoNetwork, kMeanError, kArea});
template <typename Value>
using PerWay = std::array<Value, kWays>;

/// "no network".
const char* to_string(Way way);
/// The same as a key of JSON: "no_network".
std::string key_of(Way way);

/// One image that was scored.
struct ScoredImage {
  std::string name;         ///< relative to the folder
  std::string label;        ///< "good", its kind of defect, or "" where that is not known
  std::string group;        ///< images of one group are drawn together
  PerWay<double> scores{};  ///< finite; higher is more anomalous
};

/// Throws OptionError unless `fpr` is a share of good images that may be called anomalous.
void require_false_alarms(double fpr);

/// What good images get that the network was not trained on.
struct Calibration {
  PerWay<std::vector<double>> scores;
  std::int64_t groups = 0;           ///< of these images
  std::int64_t training_images = 0;  ///< that places were learnt from
  Precision precision{};             ///< the network computed in

  std::size_t images() const { return scores[kNetwork].size(); }
  /// Which a share `rate` of good images exceeds at most, see threshold_for_rate().
  PerWay<double> thresholds(double rate) const;
  /// Why so few images say little of `rate`, for people; empty where they are enough.
  std::string doubt(double rate) const;
};

/// Masks of the images with a defect.
struct MaskCount {
  std::int64_t images = 0, found = 0;
  std::map<std::string, std::int64_t> missing;  ///< images by why not: "of another size"
};
/// "masks found for 3 of 5 images with defects (2 without one)".
std::string to_string(const MaskCount& masks);

/// All scores of a folder.
struct Scores {
  std::vector<ScoredImage> images;   ///< sorted by name
  std::vector<SkippedFile> skipped;  ///< images that could not be used
  Calibration calibration;
  double rate = 0.01;           ///< share of good images that may be above the threshold
  PerWay<double> thresholds{};  ///< an image is anomalous above it
  /// By label, of images with a mask and of good ones; empty for ways without maps.
  PerWay<std::map<std::string, PixelMetrics>> pixels;
  MaskCount masks;
  double heat_full_scale = 0;  ///< value of a map that 65535 stands for; 0: none were written

  bool anomalous(const ScoredImage& image) const {
    return image.scores[kNetwork] > thresholds[kNetwork];
  }
};

/// A value and where it may lie.
struct Estimate {
  double value = kNoValue;
  Interval interval;
};
/// "0.918 [0.815, 0.981]", "0.918", or "-" for NaN.
std::string to_string(const Estimate& estimate);

/// How well good images and those with defects were told apart.
struct Measures {
  std::int64_t good = 0, anomalous = 0;
  Estimate auroc, average_precision;  ///< of images
  Detections at_threshold;
  double pixel_auroc = kNoValue, pro = kNoValue;  ///< NaN where there are no masks
  std::int64_t regions = 0;                       ///< in the masks
};

/// The scores of a folder and what is to be said about them.
struct ScoreResult : Scores {
  std::int64_t anomalous_images = 0;
  double smallest_rate = 0;   ///< that so many good images can show
  Estimate area_correlation;  ///< of scores and areas of good images

  /// The rest is there for folders with good images or kinds of defects. What needs both is NaN
  /// where there is one of them.
  bool labelled = false;
  PerWay<Measures> overall;               ///< of all kinds together
  std::map<std::string, Measures> kinds;  ///< of the network, by kind of defect
  PerWay<Estimate> lead;                  ///< of the network's AUROC over a control's
  Way strongest_control = kNoNetwork;
  bool compares() const { return !std::isnan(overall[kNetwork].auroc.value); }
  bool beats_controls = false;  ///< where compares()

  std::vector<std::string> warnings;  ///< what a reader must not overlook, a sentence each
};

/// seed: of the bootstrap that intervals come from.
ScoreResult summarize(Scores scores, std::uint64_t seed = 0);

/// The content of scores.csv: path,label,score,anomalous.
std::string to_csv(const Scores& scores);

/// The content of summary.json; indent: blanks a level, or -1 for one line.
std::string to_json(const ScoreResult& result, int indent = -1);

}  // namespace convae
