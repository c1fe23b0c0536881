#include "convae/inspection/score_report.h"

#include "convae/core/text.h"
#include "convae/data/layout.h"
#include "convae/data/pictures.h"
#include "convae/models/pixels.h"
#include "convae/reporting/page.h"
#include "convae/reporting/report_data.h"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>
#include <iterator>

namespace convae {
namespace {

using ReportJson = nlohmann::ordered_json;

constexpr std::int64_t kThumbnail = 200;  // longest side, in pixels
constexpr std::size_t kMostRocPoints = 200;
constexpr double kShownShare = 0.98;  // of scores, within the histogram's bins but the last

bool is_good(const ScoredImage& image) { return image.label == kGoodLabel; }
bool has_defect(const ScoredImage& image) { return !image.label.empty() && !is_good(image); }

std::vector<double> network_scores(const Scores& scores,
                                   const std::function<bool(const ScoredImage&)>& which) {
  std::vector<double> values;
  for (const ScoredImage& image : scores.images) {
    if (which(image)) values.push_back(image.scores[kNetwork]);
  }
  return values;
}

/// Scores of the good pictures it was calibrated on, and of those that were scored.
ReportJson histogram_of(const ScoreResult& result) {
  const std::vector<double>& calibration = result.calibration.scores[kNetwork];
  std::vector<std::pair<const char*, std::vector<double>>> series = {
      {"good, calibration", calibration}};
  if (result.labelled) {
    series.emplace_back("good, here", network_scores(result, is_good));
    series.emplace_back("with defects", network_scores(result, has_defect));
  } else {
    series.emplace_back("scored here", network_scores(result, [](const auto&) { return true; }));
  }
  std::erase_if(series, [](const auto& part) { return part.second.empty(); });
  std::vector<double> all = {result.thresholds[kNetwork]};
  for (const auto& [label, scores] : series) all.insert(all.end(), scores.begin(), scores.end());
  // A few scores may be far above all others, and would leave one bar to the rest.
  const double threshold = result.thresholds[kNetwork];
  const double high = std::max(quantile(all, kShownShare), threshold + std::abs(threshold) / 2);
  const Bins bins = bins_between(std::ranges::min(all), std::min(high, std::ranges::max(all)));
  const double end = bins.start + bins.width * static_cast<double>(bins.count);
  ReportJson json = {{"start", bins.start}, {"width", bins.width}, {"bins", bins.count}};
  json["above"] = std::count_if(all.begin() + 1, all.end(), [&](double s) { return s >= end; });
  for (const auto& [label, scores] : series) {
    json["series"].push_back({{"label", label}, {"counts", bins.counts(scores)}});
  }
  return json;
}

/// (share of good pictures, share of those with defects) above every score, from none to all.
ReportJson roc_points(const ScoreResult& result, Way way) {
  std::vector<std::pair<double, bool>> order;
  for (const ScoredImage& image : result.images) {
    if (!image.label.empty()) order.emplace_back(image.scores[way], has_defect(image));
  }
  std::ranges::sort(order, std::greater<>());
  const Measures& m = result.overall[way];
  std::vector<std::array<double, 2>> points = {{0, 0}};
  double wrong = 0, found = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    ++(order[i].second ? found : wrong);
    if (i + 1 < order.size() && order[i + 1].first == order[i].first) continue;
    points.push_back(
        {wrong / static_cast<double>(m.good), found / static_cast<double>(m.anomalous)});
  }
  ReportJson json = ReportJson::array();
  for (const std::size_t place : spread(points.size(), kMostRocPoints))
    json.push_back(points[place]);
  return json;
}

ReportJson roc_of(const ScoreResult& result) {
  ReportJson json = ReportJson::array();
  if (!result.compares()) return json;
  for (const Way way : {kNetwork, kNoNetwork}) {
    json.push_back({{"label", to_string(way)},
                    {"auroc", result.overall[way].auroc.value},
                    {"points", roc_points(result, way)}});
  }
  return json;
}

}  // namespace

std::vector<std::pair<ScoreReport::ListName, ScoreReport::Key>> ScoreReport::places_of(
    const ScoredImage& image) const {
  const double score = image.scores[kNetwork];
  const bool anomalous = score > threshold_;
  std::vector<std::pair<ListName, Key>> places = {{kRanked, {-score, image.name}}};
  if (is_good(image) && anomalous) places.push_back({kFalseAlarms, {-score, image.name}});
  if (has_defect(image) && !anomalous) places.push_back({kMisses, {score, image.name}});
  std::erase_if(places, [&](const auto& place) {
    const auto& [name, key] = place;
    return lists_[name].size() >= kMost[name] && key > lists_[name].rbegin()->first;
  });
  return places;
}

ScoreReport::Pictures ScoreReport::pictures_of(const torch::Tensor& picture,
                                               const torch::Tensor& overlay, Size own) {
  if (!own) own = {picture.size(1), picture.size(2)};
  const torch::Tensor shown = to_uint8(to_float(picture.unsqueeze(0), torch::kCPU)[0]);
  return {{own.w, own.h}, {thumbnail_uri(shown, kThumbnail), thumbnail_uri(overlay, kThumbnail)}};
}

void ScoreReport::add(const ScoredImage& image, Pictures pictures) {
  const auto entry = std::make_shared<const Shown>(Shown{image, std::move(pictures)});
  for (const auto& [name, key] : places_of(image)) {
    lists_[name].emplace(key, entry);
    if (lists_[name].size() > kMost[name]) lists_[name].erase(std::prev(lists_[name].end()));
  }
}

std::string ScoreReport::page(const ScoreResult& result, const std::string& name) const {
  ReportJson data = {{"name", name}, {"summary", ReportJson::parse(to_json(result))}};
  data["histogram"] = histogram_of(result);
  data["roc"] = roc_of(result);
  std::map<const Shown*, std::size_t> places;
  data["cards"] = data["pictures"] = ReportJson::array();
  const auto place = [&](const Shown& shown) {
    const auto [found, is_new] = places.try_emplace(&shown, places.size());
    if (!is_new) return found->second;
    const std::size_t first = data["pictures"].size();
    for (const std::string& uri : shown.pictures.uris) data["pictures"].push_back(uri);
    data["cards"].push_back({{"name", printable(shown.image.name)},
                             {"label", printable(shown.image.label)},
                             {"score", shown.image.scores[kNetwork]},
                             {"anomalous", result.anomalous(shown.image)},
                             {"size", shown.pictures.size},
                             {"parts", {first, first + 1}}});
    return found->second;
  };
  const auto add_list = [&](const char* key, ListName list, std::ptrdiff_t count) {
    ReportJson shown = ReportJson::array();
    for (const auto& [order, entry] : lists_[list]) shown.push_back(place(*entry));
    data["lists"][key] = {{"count", count}, {"places", std::move(shown)}};
  };
  const Detections& at_threshold = result.overall[kNetwork].at_threshold;
  add_list("false_alarms", kFalseAlarms, at_threshold.false_positives);
  add_list("misses", kMisses, at_threshold.false_negatives);
  add_list("ranked", kRanked, std::ssize(result.images));
  return page_with(Page::scores, std::move(data));
}

}  // namespace convae
