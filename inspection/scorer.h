#pragma once

#include "convae/inspection/residual.h"

#include <torch/types.h>

#include <cstddef>
#include <memory>
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
///     scorer.score(views).all;
class AnomalyScorer {
public:
  static constexpr int kTrainingFold = -1;

  /// What is left of one image, as many as there are views and of one size.
  using Views = std::vector<Residual>;

  /// Held-out images are in folds 0 … folds-1: those of one fold are compared with the others,
  /// since an image that is to show what unseen good images get must not be compared with itself.
  /// Images of one part belong in one fold. kTrainingFold is that of images only learnt from.
  AnomalyScorer(std::size_t views, int folds);
  ~AnomalyScorer();

  void learn_noise(const Views& views);
  void learn_locations(const Views& views, int fold);
  /// Images of one fold after each other are faster. Only the trend is learnt from kTrainingFold.
  void calibrate(const Views& views, int fold);

  /// Throws std::invalid_argument where fewer than kFewestImages held-out images, or of one fold
  /// only, were calibrated on.
  void finish();
  static constexpr std::size_t kFewestImages = 3;

  /// By all views together, and by each view as if there were no other.
  struct Scores {
    double all = 0;
    std::vector<double> view;
  };

  /// Of the held-out images, in the order of calibrate(), each compared with other folds: what
  /// unseen good images get.
  std::vector<Scores> good_scores() const;

  /// Throws std::runtime_error where the score is not finite.
  Scores score(const Views& views);

  /// The same, and maps (H, W) float of where it comes from: root mean square over channels of the
  /// standardised residual where it is above the mean, divided by the mean peak of good images. 1
  /// is as much as the strongest pixels of good images have.
  struct Maps {
    torch::Tensor all;
    std::vector<torch::Tensor> view;
  };
  Scores score(const Views& views, Maps& maps);

private:
  class Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace convae
