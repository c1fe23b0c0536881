#include "convae/inspection/scorer.h"

#include "convae/core/parallel.h"
#include "convae/core/size.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace convae {
namespace {

constexpr double kSmallestPeak = 1e-6;  // that maps are divided by

/// Calls use(index, map) for all channels of a view, several at once, where `index` is `first` for
/// the first; and after_scale(maps) with those of a scale when they are done.
template <typename Use, typename AfterScale>
void for_each_channel(const ChannelMaps& channels, std::size_t first, const Use& use,
                      const AfterScale& after_scale) {
  for (std::size_t scale = 0; scale < ChannelMaps::kScales.size(); ++scale) {
    std::vector<cv::Mat> maps = channels.at_scale(scale);
    parallel_for_each(std::ssize(maps), [&](std::int64_t i) {
      use(first + static_cast<std::size_t>(i), maps[static_cast<std::size_t>(i)]);
    });
    after_scale(maps);
    first += maps.size();
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

/// Without a copy.
torch::Tensor as_tensor_of(const cv::Mat& kernel) {
  return torch::from_blob(kernel.data, {kernel.rows, kernel.cols}, torch::kFloat);
}

torch::Tensor needed(const AnomalyScorer::State& state, const std::string& name,
                     at::IntArrayRef shape, at::ScalarType type) {
  const auto found = state.find(name);
  if (found == state.end() || found->second.sizes() != shape ||
      found->second.scalar_type() != type || !found->second.isfinite().all().item<bool>()) {
    throw std::invalid_argument("it has no '" + name + "' of the shape and type expected");
  }
  return found->second;
}

/// "peaks.0.": all views together; "peaks.1.": the first alone.
std::string model_prefix(std::size_t model) { return "peaks." + std::to_string(model) + "."; }

}  // namespace

AnomalyScorer::AnomalyScorer(std::size_t views, int folds)
    : views_(views),
      channels_(ChannelMaps::kScales.size() * ChannelMaps::kChannelsPerScale),
      whitening_(views),
      kernels_(views),
      locations_(views * channels_, folds) {}

AnomalyScorer::State AnomalyScorer::state() const {
  std::vector<torch::Tensor> kernels;
  for (const cv::Mat& kernel : kernels_) kernels.push_back(as_tensor_of(kernel));
  State state = {{"whitening", torch::stack(kernels)}, {"places", locations_.prepared()}};
  for (std::size_t m = 0; m < models_.size(); ++m) {
    state[model_prefix(m) + "mean"] = models_[m].mean();
    state[model_prefix(m) + "deviation"] = models_[m].deviation();
    state[model_prefix(m) + "inverse"] = models_[m].inverse();
  }
  if (!trend_.slopes().defined()) return state;
  state["trend.slopes"] = trend_.slopes();
  state["trend.centre"] = torch::tensor(trend_.centre(), torch::kDouble);
  return state;
}

AnomalyScorer::AnomalyScorer(std::size_t views, const State& state) : AnomalyScorer(views, 0) {
  constexpr std::int64_t kSide = Whitening::kKernelSide, kPlaces = Places::kPlaces;
  const auto all = static_cast<std::int64_t>(views * channels_);
  const torch::Tensor kernels =
      needed(state, "whitening", {static_cast<std::int64_t>(views), kSide, kSide}, torch::kFloat);
  for (std::size_t v = 0; v < views; ++v) {
    kernels_[v] = cv::Mat(kSide, kSide, CV_32F);
    as_tensor_of(kernels_[v]).copy_(kernels[static_cast<std::int64_t>(v)]);
  }
  locations_.restore(needed(state, "places", {2, all, kPlaces, kPlaces}, torch::kFloat));
  for (std::size_t m = 0; m <= views; ++m) {
    const std::int64_t count = m == 0 ? all : static_cast<std::int64_t>(channels_);
    const auto part = [&](const char* name, at::IntArrayRef shape) {
      return needed(state, model_prefix(m) + name, shape, torch::kDouble);
    };
    models_.emplace_back(part("mean", {count}), part("deviation", {count}),
                         part("inverse", {count, count}));
  }
  if (!state.contains("trend.slopes")) return;
  trend_ = AreaTrend(needed(state, "trend.slopes", {all}, torch::kDouble),
                     needed(state, "trend.centre", {}, torch::kDouble).item<double>());
}

void AnomalyScorer::learn_noise(const Views& views) {
  for (std::size_t v = 0; v < views_; ++v) whitening_[v].add(views[v].values);
}

void AnomalyScorer::learn_locations(const Views& views, int fold) {
  const LocationStatistics::Grid grid(size_of(views));
  for (std::size_t v = 0; v < views_; ++v) {
    if (kernels_[v].empty()) kernels_[v] = whitening_[v].kernel();
    for_each_channel(
        ChannelMaps(views[v], kernels_[v]), v * channels_,
        [&](std::size_t index, const cv::Mat& map) { locations_.add(index, map, grid, fold); },
        [](const std::vector<cv::Mat>&) {});
  }
  locations_.count(fold);
}

AnomalyScorer::Observed AnomalyScorer::observe(const Views& views,
                                               std::vector<cv::Mat>* square_sums) const {
  torch::Tensor peaks =
      torch::empty({static_cast<std::int64_t>(views_ * channels_)}, torch::kDouble);
  const cv::Size size = size_of(views);
  const LocationStatistics::Grid grid(size);
  auto* peak_of = peaks.data_ptr<double>();
  for (std::size_t v = 0; v < views_; ++v) {
    const auto look = [&](std::size_t index, cv::Mat& map) {
      map = locations_.standardise(index, map, grid);
      peak_of[index] = peak(map);
      if (square_sums == nullptr) return;
      const auto usual = models_[0].mean()[static_cast<std::int64_t>(index)].item<double>();
      const cv::Mat above = cv::max(map, 0.0) / std::max(usual, kSmallestPeak);
      map = above.mul(above);
    };
    // In the order of channels: sums of floats depend on it, but must not on threads.
    const auto add = [&](const std::vector<cv::Mat>& squares) {
      if (square_sums == nullptr) return;
      for (const cv::Mat& square : squares) (*square_sums)[v] += square;
    };
    for_each_channel(ChannelMaps(views[v], kernels_[v]), v * channels_, look, add);
  }
  const std::int64_t area = Size{size.height, size.width}.area();  // cv's own is an int
  return {peaks, std::log(static_cast<double>(area))};
}

void AnomalyScorer::calibrate(const Views& views, int fold) {
  locations_.prepare(fold);
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
  locations_.prepare(kTrainingFold);
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
  std::vector<cv::Mat> sums;
  for (std::size_t v = 0; v < views_; ++v) sums.push_back(cv::Mat::zeros(size_of(views), CV_32F));
  const Observed image = observe(views, &sums);
  cv::Mat all = cv::Mat::zeros(size_of(views), CV_32F);
  for (const cv::Mat& sum : sums) all += sum;
  *maps = {root(all, views_ * channels_)};
  for (const cv::Mat& sum : sums) maps->push_back(root(sum, channels_));
  return scores_of(image, models_);
}

}  // namespace convae
