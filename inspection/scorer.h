#pragma once

#include "convae/inspection/channels.h"
#include "convae/inspection/locations.h"
#include "convae/inspection/peak_model.h"

#include <torch/types.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace convae {

/// How anomalous images are, from what is left of them in one view or several (what a network
/// leaves, the image itself), learnt from good images alone.
///
/// Each channel of each view (see inspection/channels.h) is standardised at each place by what good
/// images leave there, and its peak is the mean of its highest 0.1 % of pixels: a defect is small,
/// and a mean over the image would drown it. The score is how far the peaks are above those of good
/// images (PeakModel), as they would be at one size of image (AreaTrend).
///
/// Three passes over good images, in this order: learn_noise(), learn_locations() and calibrate().
/// Images the network was trained on may be among them, in kTrainingFold: they show what is left at
/// which place and how peaks go with the image's size, but never what a usual peak is.
///
///     AnomalyScorer scorer(/*views=*/2, folds);
///     for (…) scorer.learn_noise(views);
///     for (…) scorer.learn_locations(views, fold);
///     for (…) scorer.calibrate(views, fold);
///     scorer.finish();
///     scorer.score(views)[0];
class AnomalyScorer {
public:
  static constexpr int kTrainingFold = LocationStatistics::kTrainingFold;
  static constexpr std::size_t kFewestImages = 3;

  /// What is left of one image, as many as there are views and of one size.
  using Views = std::vector<Residual>;
  /// By all views together, then by each view as if there were no other.
  using Scores = std::vector<double>;
  /// Likewise (H, W) float of where a score comes from: root mean square over channels of the
  /// standardised residual where it is above the mean, divided by the mean peak of good images. 1
  /// is as much as the strongest pixels of good images have.
  using Maps = std::vector<torch::Tensor>;

  /// Held-out images are in folds 0 … folds-1: those of one fold are compared with the others,
  /// since an image that is to show what unseen good images get must not be compared with itself.
  /// Images of one part belong in one fold. kTrainingFold is that of images only learnt from.
  AnomalyScorer(std::size_t views, int folds);

  /// All that score() needs, by name.
  using State = std::map<std::string, torch::Tensor>;
  State state() const;
  /// One that can score(). Throws std::invalid_argument where a tensor is missing or is not what
  /// state() makes.
  AnomalyScorer(std::size_t views, const State& state);

  void learn_noise(const Views& views);
  void learn_locations(const Views& views, int fold);
  /// Images of one fold after each other are faster. Only the trend is learnt from kTrainingFold.
  void calibrate(const Views& views, int fold);

  /// Throws std::invalid_argument where fewer than kFewestImages held-out images, or of one fold
  /// only, were calibrated on.
  void finish();

  /// Of the held-out images, in the order of calibrate(), each compared with other folds: what
  /// unseen good images get.
  const std::vector<Scores>& good_scores() const { return good_scores_; }

  /// Makes maps where there is a place for them. Several threads may call it after finish().
  /// Throws std::runtime_error where a score is not finite.
  Scores score(const Views& views, Maps* maps = nullptr) const;

private:
  /// The peaks of an image, (all channels) double, and how large it is.
  struct Observed {
    torch::Tensor peaks;
    double log_area = 0;
    int fold = kTrainingFold;
  };
  using Models = std::vector<PeakModel>;  // of all channels, then of those of each view

  Observed observe(const Views& views, std::vector<cv::Mat>* square_sums) const;
  AreaTrend fit_trend() const;
  torch::Tensor peaks_of(const torch::Tensor& peaks, std::size_t model) const;
  Models models_without(int fold) const;
  Scores scores_of(const Observed& image, const Models& models) const;

  std::size_t views_, channels_;  // channels of one view
  std::vector<Whitening> whitening_;
  std::vector<cv::Mat> kernels_;  // empty until they are needed
  LocationStatistics locations_;  // channels of the first view, then those of the next
  std::vector<Observed> training_, held_out_;
  AreaTrend trend_;
  std::vector<Scores> good_scores_;
  Models models_;
};

}  // namespace convae
