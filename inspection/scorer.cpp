#include "convae/inspection/scorer.h"

#include "convae/core/parallel.h"
#include "convae/inspection/area_trend.h"
#include "convae/inspection/channels.h"
#include "convae/inspection/locations.h"
#include "convae/inspection/peak_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <stdexcept>

namespace convae {
namespace {

constexpr double kSmallestPeak = 1e-6;  // that maps are divided by

/// Calls use(channel, map) for all channels, several at once, and after_scale(begin, end) with
/// those of a scale when they are done.
template <typename Use, typename AfterScale>
void for_each_channel(const ChannelMaps& maps, const Use& use, const AfterScale& after_scale) {
  for (std::size_t scale = 0; scale < ChannelMaps::scales(); ++scale) {
    const std::vector<cv::Mat> here = maps.at_scale(scale);
    const std::size_t first = scale * ChannelMaps::channels_per_scale();
    parallel_for_each(static_cast<std::int64_t>(here.size()), [&](std::int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      use(first + index, here[index]);
    });
    after_scale(first, first + here.size());
  }
}

cv::Size size_of(const AnomalyScorer::Views& views) {
  const torch::Tensor& values = views[0].values;
  return {static_cast<int>(values.size(2)), static_cast<int>(values.size(1))};
}

/// A mean of squares → its root, as a tensor.
torch::Tensor root(const cv::Mat& square_sum, std::size_t channels) {
  cv::Mat map;
  cv::sqrt(square_sum / static_cast<double>(channels), map);
  return torch::from_blob(map.data, {map.rows, map.cols}, torch::kFloat).clone();
}

}  // namespace

class AnomalyScorer::Parts {
public:
  Parts(std::size_t views, int folds);
  void learn_noise(const Views& views);
  void learn_locations(const Views& views, int fold);
  void calibrate(const Views& views, int fold);
  void finish();
  const std::vector<Scores>& good_scores() const { return good_scores_; }
  Scores score(const Views& views);
  Scores score(const Views& views, Maps& maps);

private:
  /// The peaks of an image, (all channels) double, and how large it is.
  struct Observed {
    torch::Tensor peaks;
    double log_area = 0;
    int fold = kTrainingFold;
  };
  Observed observe(const Views& views, std::vector<cv::Mat>* square_sums) const;
  AreaTrend fit_trend() const;
  torch::Tensor view_peaks(const torch::Tensor& peaks, std::size_t view) const;
  /// Of all channels, then of those of each view.
  struct Models {
    PeakModel all;
    std::vector<PeakModel> view;
  };
  Models models_without(int fold) const;
  Scores scores_of(const Observed& image, const Models& models) const;
  const cv::Mat& kernel(std::size_t view);
  void compare_without(int fold);

  std::size_t views_, channels_;  // channels of one view
  std::vector<Whitening> whitening_;
  std::vector<cv::Mat> kernels_;  // empty until they are needed
  LocationStatistics locations_;  // channels of the first view, then those of the next
  std::optional<int> left_out_;   // fold that locations_ is prepared without
  std::vector<Observed> training_, held_out_;
  AreaTrend trend_;
  std::vector<Scores> good_scores_;
  std::optional<Models> models_;
};

AnomalyScorer::Parts::Parts(std::size_t views, int folds)
    : views_(views),
      channels_(channel_names().size()),
      whitening_(views),
      kernels_(views),
      locations_(views * channels_, folds) {}

void AnomalyScorer::Parts::learn_noise(const Views& views) {
  for (std::size_t v = 0; v < views_; ++v) whitening_[v].add(views[v].values);
}

const cv::Mat& AnomalyScorer::Parts::kernel(std::size_t view) {
  if (kernels_[view].empty()) kernels_[view] = whitening_[view].kernel();
  return kernels_[view];
}

void AnomalyScorer::Parts::learn_locations(const Views& views, int fold) {
  const LocationStatistics::Grid grid(size_of(views));
  for (std::size_t v = 0; v < views_; ++v) {
    for_each_channel(
        ChannelMaps(views[v], kernel(v)),
        [&](std::size_t channel, const cv::Mat& map) {
          locations_.add(v * channels_ + channel, map, grid, fold);
        },
        [](std::size_t, std::size_t) {});
  }
  locations_.count(fold);
  left_out_.reset();
}

void AnomalyScorer::Parts::compare_without(int fold) {
  if (left_out_ == fold) return;
  locations_.prepare(fold);
  left_out_ = fold;
}

AnomalyScorer::Parts::Observed AnomalyScorer::Parts::observe(
    const Views& views, std::vector<cv::Mat>* square_sums) const {
  torch::Tensor peaks =
      torch::empty({static_cast<std::int64_t>(views_ * channels_)}, torch::kDouble);
  const cv::Size size = size_of(views);
  const LocationStatistics::Grid grid(size);
  auto* peak_of = peaks.data_ptr<double>();
  for (std::size_t v = 0; v < views_; ++v) {
    std::vector<cv::Mat> squares(channels_);
    const auto look = [&](std::size_t channel, const cv::Mat& map) {
      const std::size_t index = v * channels_ + channel;
      const cv::Mat standardised = locations_.standardise(index, map, grid);
      peak_of[index] = peak(standardised);
      if (square_sums == nullptr) return;
      const auto usual = models_->all.mean()[static_cast<std::int64_t>(index)].item<double>();
      squares[channel] = cv::max(standardised, 0.0) / std::max(usual, kSmallestPeak);
      squares[channel] = squares[channel].mul(squares[channel]);
    };
    // In the order of channels: sums of floats depend on it, but must not on threads.
    const auto add = [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end && square_sums != nullptr; ++i) {
        cv::Mat& sum = (*square_sums)[v];
        if (sum.empty()) sum = cv::Mat::zeros(squares[i].size(), CV_32F);
        sum += squares[i];
        squares[i].release();
      }
    };
    for_each_channel(ChannelMaps(views[v], kernels_[v]), look, add);
  }
  return {peaks, std::log(static_cast<double>(size.area()))};
}

void AnomalyScorer::Parts::calibrate(const Views& views, int fold) {
  compare_without(fold);
  Observed observed = observe(views, nullptr);
  observed.fold = fold;
  (fold == kTrainingFold ? training_ : held_out_).push_back(std::move(observed));
}

torch::Tensor AnomalyScorer::Parts::view_peaks(const torch::Tensor& peaks, std::size_t view) const {
  const auto channels = static_cast<std::int64_t>(channels_);
  return peaks.narrow(-1, static_cast<std::int64_t>(view) * channels, channels);
}

AreaTrend AnomalyScorer::Parts::fit_trend() const {
  std::vector<AreaTrend::Set> sets;
  for (const auto* images : {&training_, &held_out_}) {
    if (images->empty()) continue;
    std::vector<torch::Tensor> peaks;
    std::vector<double> log_areas;
    for (const Observed& image : *images) {
      peaks.push_back(image.peaks);
      log_areas.push_back(image.log_area);
    }
    sets.push_back({torch::stack(peaks), torch::tensor(log_areas, torch::kDouble)});
  }
  return AreaTrend(sets);
}

AnomalyScorer::Parts::Models AnomalyScorer::Parts::models_without(int fold) const {
  std::vector<torch::Tensor> others;
  std::vector<int> folds;
  for (const Observed& image : held_out_) {
    if (image.fold == fold) continue;
    others.push_back(trend_.without(image.peaks, image.log_area));
    folds.push_back(image.fold);
  }
  const torch::Tensor peaks = torch::stack(others);
  // Folds for groups: no group is in two of them.
  Models models{PeakModel(peaks, folds), {}};
  for (std::size_t v = 0; v < views_; ++v) models.view.emplace_back(view_peaks(peaks, v), folds);
  return models;
}

void AnomalyScorer::Parts::finish() {
  const std::size_t images = held_out_.size();
  std::map<int, std::size_t> of_fold;
  for (const Observed& image : held_out_) ++of_fold[image.fold];
  if (images < kFewestImages || of_fold.size() < 2) {
    throw std::invalid_argument("calibration takes " + std::to_string(kFewestImages) +
                                " images or more in two folds or more, but there are " +
                                std::to_string(images) + " in " + std::to_string(of_fold.size()));
  }
  trend_ = fit_trend();
  good_scores_.resize(images);
  for (const auto& [fold, members] : of_fold) {
    // One image alone shows no spread: then all are compared with all.
    const bool enough = images - members >= static_cast<std::size_t>(PeakModel::kFewestImages);
    const Models models = models_without(enough ? fold : kTrainingFold);
    for (std::size_t i = 0; i < images; ++i) {
      if (held_out_[i].fold == fold) good_scores_[i] = scores_of(held_out_[i], models);
    }
  }
  models_.emplace(models_without(kTrainingFold));
  compare_without(kTrainingFold);
}

AnomalyScorer::Scores AnomalyScorer::Parts::scores_of(const Observed& image,
                                                      const Models& models) const {
  const torch::Tensor peaks = trend_.without(image.peaks, image.log_area);
  Scores scores;
  scores.all = models.all.score(peaks);
  for (std::size_t v = 0; v < views_; ++v) {
    scores.view.push_back(models.view[v].score(view_peaks(peaks, v)));
  }
  if (!std::isfinite(scores.all)) throw std::runtime_error("a score is not finite");
  return scores;
}

AnomalyScorer::Scores AnomalyScorer::Parts::score(const Views& views) {
  compare_without(kTrainingFold);
  return scores_of(observe(views, nullptr), *models_);
}

AnomalyScorer::Scores AnomalyScorer::Parts::score(const Views& views, Maps& maps) {
  compare_without(kTrainingFold);
  std::vector<cv::Mat> sums(views_);
  const Observed image = observe(views, &sums);
  maps = {};
  cv::Mat all = cv::Mat::zeros(sums[0].size(), CV_32F);
  for (const cv::Mat& sum : sums) {
    maps.view.push_back(root(sum, channels_));
    all += sum;
  }
  maps.all = root(all, views_ * channels_);
  return scores_of(image, *models_);
}

AnomalyScorer::AnomalyScorer(std::size_t views, int folds)
    : parts_(std::make_unique<Parts>(views, folds)) {}

AnomalyScorer::~AnomalyScorer() = default;

void AnomalyScorer::learn_noise(const Views& views) { parts_->learn_noise(views); }

void AnomalyScorer::learn_locations(const Views& views, int fold) {
  parts_->learn_locations(views, fold);
}

void AnomalyScorer::calibrate(const Views& views, int fold) { parts_->calibrate(views, fold); }

void AnomalyScorer::finish() { parts_->finish(); }

std::vector<AnomalyScorer::Scores> AnomalyScorer::good_scores() const {
  return parts_->good_scores();
}

AnomalyScorer::Scores AnomalyScorer::score(const Views& views) { return parts_->score(views); }

AnomalyScorer::Scores AnomalyScorer::score(const Views& views, Maps& maps) {
  return parts_->score(views, maps);
}

}  // namespace convae
