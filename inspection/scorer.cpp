#include "convae/inspection/scorer.h"

#include "convae/core/parallel.h"
#include "convae/inspection/faults.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

namespace convae {
namespace {

constexpr double kLeastSpread = 0.05;  // of a logarithm of peaks: none decides alone
/// Variance of the weights of a detector that other images do not confuse, and how much confusion
/// takes most of it away.
constexpr double kDetectorVariance = 0.1, kConfusing = 0.25;

/// Of that shape, where -1 is any length.
torch::Tensor needed(const AnomalyScorer::State& state, const std::string& name,
                     torch::ScalarType type, at::IntArrayRef shape) {
  const auto fits = [](std::int64_t is, std::int64_t wanted) { return wanted < 0 || is == wanted; };
  const auto found = state.find(name);
  if (found == state.end() || found->second.scalar_type() != type ||
      !std::ranges::equal(found->second.sizes(), shape, fits) ||
      !found->second.isfinite().all().item<bool>()) {
    throw std::invalid_argument("it has no usable '" + name + "'");
  }
  return found->second;
}

std::string places_name(std::size_t index) { return "places." + std::to_string(index); }
std::string part_name(std::size_t way, const char* what) {
  return "part." + std::to_string(way) + "." + what;
}

}  // namespace

AnomalyScorer::State AnomalyScorer::state() const {
  State state = {{"mean", mean_},
                 {"deviation", deviation_},
                 {"network-features", torch::tensor(network_features_)}};
  const Scales& scales = scales_.at(-1);
  state["maps"] = torch::tensor(std::ssize(scales));
  for (std::size_t i = 0; i < scales.size(); ++i) state[places_name(i)] = scales[i];
  for (const Way way : kMappedWays) {
    state[part_name(way, "weights")] = classifiers_[way].weights;
    state[part_name(way, "biases")] = classifiers_[way].biases;
    state[part_name(way, "heat-weights")] = heat_[way].weights;
    state[part_name(way, "heat-bias")] = heat_[way].bias;
  }
  return state;
}

AnomalyScorer::AnomalyScorer(const State& state)
    : network_features_(needed(state, "network-features", torch::kLong, {}).item<std::int64_t>()),
      mean_(needed(state, "mean", torch::kDouble, {-1})),
      deviation_(needed(state, "deviation", torch::kDouble, mean_.sizes())) {
  const auto maps = needed(state, "maps", torch::kLong, {}).item<std::int64_t>();
  Scales& scales = scales_[-1];
  while (std::ssize(scales) < maps) {
    scales.push_back(
        needed(state, places_name(scales.size()), torch::kFloat, {2, -1, kPlaces, kPlaces}));
  }
  const std::int64_t features = features_before(scales.size());
  if (maps % kPyramidLevels != 0 || features != mean_.size(0) || network_features_ < 0 ||
      network_features_ > features) {
    throw std::invalid_argument("it is of other maps");
  }
  for (const Way way : kMappedWays) {
    const torch::Tensor weights =
        needed(state, part_name(way, "weights"), torch::kDouble, {-1, part_of(mean_, way).size(0)});
    classifiers_.push_back(
        {weights, needed(state, part_name(way, "biases"), torch::kDouble, {weights.size(0)})});
    heat_.push_back({needed(state, part_name(way, "heat-weights"), torch::kFloat, {features}),
                     needed(state, part_name(way, "heat-bias"), torch::kFloat, {1})});
  }
}

std::vector<torch::Tensor> AnomalyScorer::seen_at_places(const SeenImage& image) {
  const c10::InferenceMode no_gradients;
  std::vector<torch::Tensor> seen;
  for (std::size_t i = 0; i < image.maps.size(); ++i) {
    seen.push_back(PlaceStatistics::seen(image.maps[i], Places(image.size, level_of(i))));
  }
  return seen;
}

void AnomalyScorer::learn_places(const std::vector<torch::Tensor>& seen, int fold) {
  places_.resize(seen.size(), PlaceStatistics(folds_));
  for (std::size_t i = 0; i < seen.size(); ++i) places_[i].add(seen[i], fold);
}

StandardisedMaps AnomalyScorer::look(const SeenImage& image, int without_fold) const {
  const c10::InferenceMode no_gradients;
  const Scales& scales = scales_.at(without_fold);
  std::vector<Places> places;  // of each level
  for (int level = kFirstLevel; level < kLevelsEnd; ++level) places.emplace_back(image.size, level);
  StandardisedMaps maps(image.maps.size());
  parallel_for_each(std::ssize(maps), [&](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    maps[i] = PlaceStatistics::standardise(image.maps[i], places[i % kPyramidLevels], scales[i]);
  });
  return maps;
}

torch::Tensor AnomalyScorer::features(const StandardisedMaps& maps) {
  const c10::InferenceMode no_gradients;
  std::vector<torch::Tensor> peaks(maps.size());
  parallel_for_each(std::ssize(maps), [&](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    Peaks of_maps(maps[i][0].numel(), maps[i].size(0));
    of_maps.add(both_ends(maps[i]));
    peaks[i] = of_maps.means();
  });
  return features_of(peaks);
}

torch::Tensor AnomalyScorer::features_of(const std::vector<torch::Tensor>& peaks) {
  return torch::cat(peaks).clamp_min(kSmallestPeak).log();
}

AnomalyScorer::Scores AnomalyScorer::score_by_peaks(const std::vector<torch::Tensor>& peaks) const {
  return scores_of(features_of(peaks), classifiers_);
}

void AnomalyScorer::close_places() {
  for (int fold = -1; fold < folds_; ++fold) {
    for (const PlaceStatistics& places : places_) scales_[fold].push_back(places.without(fold));
  }
  network_features_ = features_before(scales().size() - kPyramidLevels);  // the image's are last
}

std::int64_t AnomalyScorer::features_before(std::size_t index) const {
  std::int64_t features = 0;
  for (std::size_t i = 0; i < index; ++i) features += peak_count(scales()[i].size(1));
  return features;
}

AnomalyScorer::Learnt AnomalyScorer::observe(const SeenImage& image, const Example& example,
                                             const torch::Tensor& label) const {
  const StandardisedMaps maps = look(image, example.fold);
  Learnt learnt{features(maps), example, {}};
  if (example.kind == 0 || label.defined()) {
    learnt.pixels = SampledPixels::of(maps, image.size, label);
  }
  return learnt;
}

torch::Tensor AnomalyScorer::part_of(const torch::Tensor& features, Way way) const {
  if (way == kResidualAlone) return features.narrow(-1, 0, network_features_);
  return way == kNoNetwork ? features.slice(-1, network_features_) : features;
}

torch::Tensor AnomalyScorer::standardised(const torch::Tensor& features) const {
  return ((features - mean_) / deviation_).clamp(-kFarthest, kFarthest);
}

/// How much the detector's peaks may count: more than others, as it was made to find defects,
/// unless they rise from images it was trained on to others nearly as much as by a drawn defect.
void AnomalyScorer::judge_detector() {
  variances_ = torch::full_like(mean_, FaultClassifier::kVariance);
  // Its features come after those of the residual.
  const std::int64_t first = features_before(kPyramidLevels), count = network_features_ - first;
  if (count == 0) return;
  const auto level = [&](const auto& is_meant) {
    double sum = 0;
    std::int64_t images = 0;
    for (const Learnt& image : learnt_) {
      if (!is_meant(image.example)) continue;
      sum += standardised(image.features).narrow(0, first, count).mean().item<double>();
      ++images;
    }
    return sum / static_cast<double>(images);
  };
  const double trained = level([](const Example& e) { return e.kind == 0 && !e.held_out; });
  const double unseen = level([](const Example& e) { return e.kind == 0 && e.held_out; });
  const double defects = level([](const Example& e) { return is_defect(e.kind) && e.held_out; });
  const double rise = unseen - trained, effect = defects - unseen;
  if (std::isnan(rise + effect)) return;  // there are no images of the training, or no defects
  const double confusion = std::max(rise, 0.0) / std::max(effect, 1e-3);
  variances_.narrow(0, first, count)
      .fill_(kDetectorVariance * std::exp(-std::pow(confusion / kConfusing, 2)));
}

AnomalyScorer::Classifiers AnomalyScorer::fit_without(int fold) const {
  std::vector<torch::Tensor> rows;
  std::vector<int> kinds;
  for (const Learnt& image : learnt_) {
    if (image.example.fold == fold) continue;
    rows.push_back(image.features);
    kinds.push_back(image.example.kind);
  }
  const torch::Tensor features = standardised(torch::stack(rows));
  Classifiers classifiers;
  for (const Way way : kMappedWays) {
    classifiers.push_back(
        FaultClassifier::fit(part_of(features, way), kinds, part_of(variances_, way)));
  }
  return classifiers;
}

void AnomalyScorer::finish() {
  std::vector<torch::Tensor> good;
  std::set<int> folds;
  std::size_t held_out = 0;
  for (const Learnt& image : learnt_) {
    if (image.example.kind != 0) continue;
    good.push_back(image.features);
    folds.insert(image.example.fold);
    if (image.example.held_out) ++held_out;
  }
  if (held_out < kFewestImages || folds.size() < 2) {
    throw std::invalid_argument("calibration takes " + std::to_string(kFewestImages) +
                                " images or more in two folds or more, but there are " +
                                std::to_string(held_out) + " in " + std::to_string(folds.size()));
  }
  const torch::Tensor usual = torch::stack(good);
  mean_ = usual.mean(0);
  deviation_ = usual.std(0) + kLeastSpread;
  judge_detector();
  std::map<int, Classifiers> without;
  for (const auto& [features, example, pixels] : learnt_) {
    if (example.kind != 0 || !example.held_out) continue;
    if (!without.contains(example.fold)) without[example.fold] = fit_without(example.fold);
    good_scores_.push_back(scores_of(features, without[example.fold]));
  }
  classifiers_ = fit_without(-1);
  heat_ = fit_heat();
}

std::vector<HeatMap> AnomalyScorer::fit_heat() const {
  std::vector<torch::Tensor> maps;
  SampledPixels all;
  for (const Learnt& image : learnt_) {
    if (!image.pixels.maps.defined()) continue;
    maps.push_back(image.pixels.maps);
    all.defects.insert(all.defects.end(), image.pixels.defects.begin(), image.pixels.defects.end());
  }
  all.maps = torch::cat(maps);
  const std::int64_t count = all.maps.size(1);
  return {HeatMap::fit(all, 0, count), HeatMap::fit(all, 0, network_features_),
          HeatMap::fit(all, network_features_, count - network_features_)};
}

AnomalyScorer::Scores AnomalyScorer::scores_of(const torch::Tensor& features,
                                               const Classifiers& classifiers) const {
  const torch::Tensor z = standardised(features);
  Scores scores{};
  for (const Way way : kMappedWays) {
    scores[way] = classifiers[way].score(part_of(z, way));
  }
  if (!std::isfinite(scores[kNetwork])) throw std::runtime_error("a score is not finite");
  return scores;
}

AnomalyScorer::Scores AnomalyScorer::score(const StandardisedMaps& maps) const {
  return scores_of(features(maps), classifiers_);
}

}  // namespace convae
