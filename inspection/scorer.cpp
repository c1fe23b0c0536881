#include "convae/inspection/scorer.h"

#include "convae/core/parallel.h"

#include <algorithm>
#include <cmath>
#include <map>
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

AnomalyScorer::AnomalyScorer(std::size_t views, int folds)
    : views_(views),
      channels_(ChannelMaps::scales() * ChannelMaps::channels_per_scale()),
      whitening_(views),
      kernels_(views),
      locations_(views * channels_, folds) {}

void AnomalyScorer::learn_noise(const Views& views) {
  for (std::size_t v = 0; v < views_; ++v) whitening_[v].add(views[v].values);
}

void AnomalyScorer::learn_locations(const Views& views, int fold) {
  const LocationStatistics::Grid grid(size_of(views));
  for (std::size_t v = 0; v < views_; ++v) {
    if (kernels_[v].empty()) kernels_[v] = whitening_[v].kernel();
    const auto add = [&](std::size_t channel, const cv::Mat& map) {
      locations_.add(v * channels_ + channel, map, grid, fold);
    };
    for_each_channel(ChannelMaps(views[v], kernels_[v]), add, [](std::size_t, std::size_t) {});
  }
  locations_.count(fold);
  left_out_.reset();
}

void AnomalyScorer::compare_without(int fold) {
  if (left_out_ == fold) return;
  locations_.prepare(fold);
  left_out_ = fold;
}

AnomalyScorer::Observed AnomalyScorer::observe(const Views& views,
                                               std::vector<cv::Mat>* square_sums) const {
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
      const auto usual = models_[0].mean()[static_cast<std::int64_t>(index)].item<double>();
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

void AnomalyScorer::calibrate(const Views& views, int fold) {
  compare_without(fold);
  Observed observed = observe(views, nullptr);
  observed.fold = fold;
  (fold == kTrainingFold ? training_ : held_out_).push_back(std::move(observed));
}

/// Of all channels for the first model, of one view's for the others.
torch::Tensor AnomalyScorer::peaks_of(const torch::Tensor& peaks, std::size_t model) const {
  if (model == 0) return peaks;
  const auto channels = static_cast<std::int64_t>(channels_);
  return peaks.narrow(-1, static_cast<std::int64_t>(model - 1) * channels, channels);
}

AreaTrend AnomalyScorer::fit_trend() const {
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

AnomalyScorer::Models AnomalyScorer::models_without(int fold) const {
  std::vector<torch::Tensor> others;
  std::vector<int> folds;
  for (const Observed& image : held_out_) {
    if (image.fold == fold) continue;
    others.push_back(trend_.without(image.peaks, image.log_area));
    folds.push_back(image.fold);
  }
  const torch::Tensor peaks = torch::stack(others);
  // Folds for groups: no group is in two of them.
  Models models;
  for (std::size_t m = 0; m <= views_; ++m) models.emplace_back(peaks_of(peaks, m), folds);
  return models;
}

void AnomalyScorer::finish() {
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
  models_ = models_without(kTrainingFold);
  compare_without(kTrainingFold);
}

AnomalyScorer::Scores AnomalyScorer::scores_of(const Observed& image, const Models& models) const {
  const torch::Tensor peaks = trend_.without(image.peaks, image.log_area);
  Scores scores;
  for (std::size_t m = 0; m < models.size(); ++m) {
    scores.push_back(models[m].score(peaks_of(peaks, m)));
  }
  if (!std::isfinite(scores[0])) throw std::runtime_error("a score is not finite");
  return scores;
}

AnomalyScorer::Scores AnomalyScorer::score(const Views& views, Maps* maps) const {
  if (maps == nullptr) return scores_of(observe(views, nullptr), models_);
  std::vector<cv::Mat> sums(views_);
  const Observed image = observe(views, &sums);
  cv::Mat all = cv::Mat::zeros(sums[0].size(), CV_32F);
  for (const cv::Mat& sum : sums) all += sum;
  *maps = {root(all, views_ * channels_)};
  for (const cv::Mat& sum : sums) maps->push_back(root(sum, channels_));
  return scores_of(image, models_);
}

}  // namespace convae
