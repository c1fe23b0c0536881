#pragma once

#include "convae/core/size.h"
#include "convae/inspection/classifier.h"
#include "convae/inspection/features.h"
#include "convae/inspection/heat.h"
#include "convae/inspection/places.h"
#include "convae/inspection/results.h"

#include <torch/types.h>

#include <array>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace convae {

/// What scores look at in one image.
struct SeenImage {
  Pyramid maps;  ///< of what the network leaves, of its detector and, last, of the image itself
  Size size;
  double mean_error = 0;  ///< mean squared error of the reconstruction
};

/// How anomalous images are, learnt from good images and from faults drawn on them.
///
/// Each map (see inspection/features.h) is standardised at each place by what good images have
/// there, and its peak is the mean of its highest 0.1 % of pixels (a detector's: 1 %): a defect is
/// small, and a mean over the image would drown it. Of roughness the lowest values have a peak,
/// too. From the logarithms of the peaks a FaultClassifier tells images with a fault from good
/// ones.
///
/// Two passes over good images, in this order: learn_places(), and learn() for each image as it is
/// and with faults drawn on it.
///
///     AnomalyScorer scorer(folds);
///     for (…) scorer.learn_places(AnomalyScorer::seen_at_places(image), fold);
///     scorer.close_places();
///     for (…) scorer.learn(scorer.observe(image, {.fold = fold, .held_out = true}));
///     scorer.finish();
///     scorer.score(scorer.look(image))[kNetwork];
class AnomalyScorer {
public:
  static constexpr std::size_t kFewestImages = 3;
  static constexpr double kSmallestPeak = 0.05;  ///< in deviations: below it nothing stands out
  static constexpr double kFarthest = 8;  ///< deviations: what is further up or down says no more

  /// Of each of kMappedWays.
  using Scores = std::array<double, kMappedWays.size()>;

  /// An image that is learnt from.
  struct Example {
    int fold = 0;           ///< images of one part are in one fold
    int kind = 0;           ///< of the fault drawn on it; 0: none
    bool held_out = false;  ///< from the network's training: it shows what unseen images get
  };

  /// Folds 0 … folds-1: what is learnt for the images of one comes from the others.
  explicit AnomalyScorer(int folds) : folds_(folds) {}

  /// All that score() needs, by name.
  using State = std::map<std::string, torch::Tensor>;
  State state() const;
  /// One that can score(). Throws std::invalid_argument where a tensor is missing or is not what
  /// state() makes.
  explicit AnomalyScorer(const State& state);

  /// What each of an image's maps has at each place.
  static std::vector<torch::Tensor> seen_at_places(const SeenImage& image);
  void learn_places(const std::vector<torch::Tensor>& seen, int fold);
  /// Throws std::invalid_argument where images of one fold only were learnt.
  void close_places();

  /// What an image contributes to learning. Several threads may call it after close_places().
  struct Learnt {
    torch::Tensor features;  ///< (F) double
    Example example;
    SampledPixels pixels;  ///< none of an image with a fault whose place is not known

    template <typename Self>
    static auto parts(Self& self) {
      return std::tie(self.features, self.example, self.pixels);
    }
  };
  /// `label` (H, W): how much a drawn defect changed.
  Learnt observe(const SeenImage& image, const Example& example,
                 const torch::Tensor& label = {}) const;
  void learn(Learnt image) { learnt_.push_back(std::move(image)); }

  /// Throws std::invalid_argument where fewer than kFewestImages held-out images without a fault,
  /// or images of one fold only, were learnt.
  void finish();

  /// Of the held-out images without a fault, in the order of learn(), each by what other folds
  /// showed: what unseen good images get.
  const std::vector<Scores>& good_scores() const { return good_scores_; }

  /// An image's maps, by the places of all folds but one (-1: of all).
  StandardisedMaps look(const SeenImage& image, int without_fold = -1) const;

  /// After finish() several threads may call these. Throws std::runtime_error where a score is not
  /// finite.
  Scores score(const StandardisedMaps& maps) const;
  const HeatMap& heat_map(Way way) const { return heat_[way]; }

  /// For exporters and tiles: the scale of each of an image's maps, the network's first, see
  /// PlaceStatistics.
  const std::vector<torch::Tensor>& scales() const { return scales_.at(-1); }
  /// How many features come before those of the maps of that index.
  std::int64_t features_before(std::size_t index) const;
  /// By the peaks of each map, (K) double, with both_ends().
  Scores score_by_peaks(const std::vector<torch::Tensor>& peaks) const;
  /// (F) double, of good images' features.
  const torch::Tensor& mean() const { return mean_; }
  const torch::Tensor& deviation() const { return deviation_; }
  const FaultClassifier& classifier(Way way) const { return classifiers_[way]; }

private:
  using Scales = std::vector<torch::Tensor>;  // of each of an image's maps; see PlaceStatistics
  using Classifiers = std::vector<FaultClassifier>;

  static torch::Tensor features(const StandardisedMaps& maps);
  static torch::Tensor features_of(const std::vector<torch::Tensor>& peaks);
  torch::Tensor part_of(const torch::Tensor& features, Way way) const;
  torch::Tensor standardised(const torch::Tensor& features) const;
  void judge_detector();
  Classifiers fit_without(int fold) const;
  std::vector<HeatMap> fit_heat() const;
  Scores scores_of(const torch::Tensor& features, const Classifiers& classifiers) const;

  int folds_ = 0;
  std::int64_t network_features_ = 0;    // the first of all
  std::vector<PlaceStatistics> places_;  // of each of an image's maps
  std::map<int, Scales> scales_;         // by the fold they are without
  std::vector<Learnt> learnt_;
  torch::Tensor mean_, deviation_;  // (F) double, of good images
  torch::Tensor variances_;         // (F) double, see FaultClassifier::fit
  std::vector<Scores> good_scores_;
  Classifiers classifiers_;
  std::vector<HeatMap> heat_;
};

}  // namespace convae
