#include "convae/app/output/score_report.h"

#include "convae/core/files.h"
#include "convae/inspection/test_set.h"

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

namespace convae::app {
namespace {

using nlohmann::ordered_json;

/// A score that follows the area of good images more than this measures sizes.
constexpr double kMostAreaCorrelation = 0.2;

constexpr std::array<const char*, kWays> kKeys = {"network", "residual_alone", "no_network",
                                                  "mean_error", "image_area"};
constexpr std::array<const char*, kWays> kTitles = {"network", "residual alone", "no network",
                                                    "mean error", "image area"};

ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json pair(const Interval& interval) {
  if (std::isnan(interval.low)) return nullptr;
  return {interval.low, interval.high};
}

ordered_json to_json(const ImageResults& r) {
  ordered_json json;
  json["good"] = r.good;
  json["anomalous"] = r.anomalous;
  json["image_auroc"] = number(r.auroc);
  json["image_auroc_interval"] = pair(r.auroc_interval);
  json["average_precision"] = number(r.average_precision);
  json["average_precision_interval"] = pair(r.average_precision_interval);
  json["f1"] = number(r.at_threshold.f1());
  json["precision"] = number(r.at_threshold.precision());
  json["recall"] = number(r.at_threshold.recall());
  json["false_positive_rate"] = number(r.at_threshold.false_positive_rate());
  json["pixel_auroc"] = number(r.pixel_auroc);
  json["pro"] = number(r.pro);
  json["regions"] = r.regions;
  return json;
}

std::string cell(double value) { return std::isnan(value) ? "-" : fmt::format("{:.3f}", value); }

std::string cell(double value, const Interval& interval) {
  if (std::isnan(value) || std::isnan(interval.low)) return cell(value);
  return fmt::format("{:.3f} [{:.3f}, {:.3f}]", value, interval.low, interval.high);
}

std::string row(const std::string& title, const ImageResults& r) {
  return fmt::format("{:<22}{:>9}  {:<22}  {:<22}  {:>6}  {:>11}  {:>6}\n", title, r.anomalous,
                     cell(r.auroc, r.auroc_interval),
                     cell(r.average_precision, r.average_precision_interval),
                     cell(r.at_threshold.f1()), cell(r.pixel_auroc), cell(r.pro));
}

/// Places of the images, those of one group together.
std::vector<std::vector<std::int64_t>> by_group(const std::vector<std::string>& groups) {
  std::map<std::string, std::vector<std::int64_t>> sorted;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    sorted[groups[i]].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<std::vector<std::int64_t>> result;
  result.reserve(sorted.size());
  for (auto& [group, images] : sorted) result.push_back(std::move(images));
  return result;
}

/// Scored images of known labels, ready for statistics.
struct Labelled {
  ScoredImages images;
  std::vector<std::string> groups;

  /// What a statistic of the images gives on samples of them.
  Interval interval(double (*statistic)(const ScoredImages&), std::uint64_t seed) const {
    const auto of_sample = [&](std::span<const std::int64_t> drawn) {
      ScoredImages sample;
      for (const std::int64_t i : drawn) {
        const auto at = static_cast<std::size_t>(i);
        sample.add(images.scores[at], images.anomalous[at]);
      }
      return statistic(sample);
    };
    return bootstrap_interval(by_group(groups), of_sample, {.seed = seed});
  }
};

/// Good images and those of one kind of defect, or of all where that is "".
Labelled labelled_images(const Scores& scores, Way way, const std::string& kind) {
  Labelled result;
  for (const ScoredImage& image : scores.images) {
    const bool good = image.label == kGoodLabel;
    if (image.label.empty() || (!good && !kind.empty() && image.label != kind)) continue;
    result.images.add(image.scores[way], !good);
    result.groups.push_back(image.group);
  }
  return result;
}

/// Of good images and those of one kind, or of all.
void add_pixel_results(ImageResults& results, const std::map<std::string, PixelMetrics>& pixels,
                       const std::string& kind) {
  PixelMetrics sum;
  for (const auto& [label, metrics] : pixels) {
    if (kind.empty() || label == kind || label == kGoodLabel) sum += metrics;
  }
  results.pixel_auroc = sum.auroc();
  results.pro = sum.pro();
  results.regions = sum.regions();
}

std::vector<double> at_places(const std::vector<double>& values,
                              std::span<const std::int64_t> places) {
  std::vector<double> result;
  result.reserve(places.size());
  for (const std::int64_t i : places) result.push_back(values[static_cast<std::size_t>(i)]);
  return result;
}

/// How scores of good images go with their areas, over groups of images.
Estimate area_correlation(const Scores& scores) {
  std::vector<double> values, areas;
  std::vector<std::string> groups;
  for (const ScoredImage& image : scores.images) {
    if (image.label != kGoodLabel) continue;
    values.push_back(image.scores[kNetwork]);
    areas.push_back(image.scores[kArea]);
    groups.push_back(image.group);
  }
  const auto of_sample = [&](std::span<const std::int64_t> drawn) {
    return correlation(at_places(values, drawn), at_places(areas, drawn));
  };
  return {correlation(values, areas),
          bootstrap_interval(by_group(groups), of_sample, {.seed = scores.seed})};
}

}  // namespace

ScoreReport::ScoreReport(const Scores& scores)
    : scores_(scores), area_correlation_(area_correlation(scores)) {
  std::set<std::string> labels;
  for (const ScoredImage& image : scores.images) labels.insert(image.label);
  labels.erase("");
  const bool has_good = labels.erase(kGoodLabel) > 0;
  if (!has_good) return;
  kinds_.assign(labels.begin(), labels.end());
  if (!labelled()) return;
  for (std::size_t way = 0; way < kWays; ++way) {
    overall_[way] = results(static_cast<Way>(way), "");
    if (way != kNetwork) lead_[way] = difference_interval(static_cast<Way>(way));
  }
  for (const std::string& kind : kinds_) by_kind_[kind] = results(kNetwork, kind);
}

ImageResults ScoreReport::results(Way way, const std::string& kind) const {
  const Labelled labelled = labelled_images(scores_, way, kind);
  ImageResults r;
  r.anomalous =
      std::count(labelled.images.anomalous.begin(), labelled.images.anomalous.end(), true);
  r.good = static_cast<std::int64_t>(labelled.images.size()) - r.anomalous;
  r.auroc = auroc(labelled.images);
  r.average_precision = average_precision(labelled.images);
  r.auroc_interval = labelled.interval(&auroc, scores_.seed);
  r.average_precision_interval = labelled.interval(&average_precision, scores_.seed);
  r.at_threshold = detections(labelled.images, scores_.thresholds[way]);
  r.pixel_auroc = r.pro = kNoValue;
  if (!scores_.pixels[way].empty()) add_pixel_results(r, scores_.pixels[way], kind);
  return r;
}

Interval ScoreReport::difference_interval(Way control) const {
  const Labelled network = labelled_images(scores_, kNetwork, "");
  const Labelled other = labelled_images(scores_, control, "");
  const auto difference = [&](std::span<const std::int64_t> drawn) {
    ScoredImages ours, theirs;
    for (const std::int64_t i : drawn) {
      const auto at = static_cast<std::size_t>(i);
      ours.add(network.images.scores[at], network.images.anomalous[at]);
      theirs.add(other.images.scores[at], network.images.anomalous[at]);
    }
    return auroc(ours) - auroc(theirs);
  };
  return bootstrap_interval(by_group(network.groups), difference, {.seed = scores_.seed});
}

/// How far a control tells images apart, whichever way round: small images may be the bad ones.
double ScoreReport::usefulness(Way way) const {
  const double value = overall_[way].auroc;
  return way == kArea ? std::max(value, 1 - value) : value;
}

Way ScoreReport::strongest_control() const {
  Way strongest = kNoNetwork;
  for (const Way way : {kMeanError, kArea}) {
    if (usefulness(way) > usefulness(strongest)) strongest = way;
  }
  return strongest;
}

std::int64_t ScoreReport::anomalous_count() const {
  return std::count_if(scores_.images.begin(), scores_.images.end(),
                       [&](const ScoredImage& image) { return scores_.anomalous(image); });
}

std::vector<std::string> ScoreReport::warnings() const {
  std::vector<std::string> warnings;
  const std::size_t good = scores_.good_scores[kNetwork].size();
  if (scores_.rate < smallest_rate(good)) {
    warnings.push_back(fmt::format(
        "{} good images cannot show a rate of {:g}: the threshold is the highest of their scores, "
        "which about {:.1f} % of good images exceed; keep more out of training with --val-split",
        good, scores_.rate, 100 * smallest_rate(good)));
  }
  if (labelled()) {
    const Way control = strongest_control();
    if (usefulness(kNetwork) <= usefulness(control)) {
      warnings.push_back(
          fmt::format("the network does not beat the control '{}': AUROC {:.3f} against {:.3f}",
                      kTitles[control], usefulness(kNetwork), usefulness(control)));
    } else if (lead_[control].low <= 0 && control != kArea) {
      warnings.push_back(fmt::format(
          "the network's lead over the control '{}' may be chance: AUROC {:.3f} against {:.3f}, "
          "difference in [{:.3f}, {:.3f}]",
          kTitles[control], usefulness(kNetwork), usefulness(control), lead_[control].low,
          lead_[control].high));
    }
  }
  const auto& [r, interval] = area_correlation_;
  if (std::abs(r) > kMostAreaCorrelation) {
    const bool may_be_chance = interval.low <= 0 && interval.high >= 0;
    warnings.push_back(fmt::format("scores of good images follow their area{}: r = {}",
                                   may_be_chance ? ", which may be chance" : "",
                                   cell(r, interval)));
  }
  return warnings;
}

ordered_json ScoreReport::json() const {
  ordered_json json;
  json["images"] = scores_.images.size();
  json["skipped"] = scores_.skipped;
  json["anomalous_images"] = anomalous_count();
  json["threshold"] = number(scores_.thresholds[kNetwork]);
  json["fpr"] = scores_.rate;
  json["calibration"] = {{"images", scores_.good_scores[kNetwork].size()},
                         {"groups", scores_.good_groups},
                         {"training_images", scores_.training_images},
                         {"smallest_fpr", smallest_rate(scores_.good_scores[kNetwork].size())}};
  json["labelled"] = labelled();
  json["score_area_correlation"] = number(area_correlation_.value);
  json["score_area_correlation_interval"] = pair(area_correlation_.interval);
  if (labelled()) {
    json.update(to_json(overall_[kNetwork]));
    for (const auto& [kind, r] : by_kind_) json["kinds"][printable(kind)] = to_json(r);
    json[kKeys[kResidualAlone]] = to_json(overall_[kResidualAlone]);
    for (const Way way : {kNoNetwork, kMeanError, kArea}) {
      ordered_json control = to_json(overall_[way]);
      control["threshold"] = number(scores_.thresholds[way]);
      control["lead_of_network"] = number(overall_[kNetwork].auroc - overall_[way].auroc);
      control["lead_of_network_interval"] = pair(lead_[way]);
      json["controls"][kKeys[way]] = std::move(control);
    }
    json["beats_controls"] = usefulness(kNetwork) > usefulness(strongest_control());
  }
  json["warnings"] = warnings();
  return json;
}

std::string ScoreReport::table() const {
  std::string text = fmt::format(
      "{} images, {} anomalous: score above {:.3f}, as for at most {:g} % of good images\n"
      "(calibrated on {} good images in {} groups that were kept out of training)\n",
      scores_.images.size(), anomalous_count(), scores_.thresholds[kNetwork],
      100 * std::max(scores_.rate, smallest_rate(scores_.good_scores[kNetwork].size())),
      scores_.good_scores[kNetwork].size(), scores_.good_groups);
  if (!labelled()) {
    return text +
           "nothing is known of these images, so there is nothing to measure; see "
           "docs/inspection.md for folders with kinds of defects\n";
  }
  text += fmt::format("\n{:<22}{:>9}  {:<22}  {:<22}  {:>6}  {:>11}  {:>6}\n", "", "anomalous",
                      "image AUROC [95 %]", "average precision", "F1", "pixel AUROC", "PRO");
  text += row("all", overall_[kNetwork]);
  for (const auto& [kind, r] : by_kind_) text += row("  " + printable(kind), r);
  text += row(kTitles[kResidualAlone], overall_[kResidualAlone]) + "controls\n";
  for (const Way way : {kNoNetwork, kMeanError, kArea}) {
    text += row(std::string("  ") + kTitles[way], overall_[way]);
  }
  text += fmt::format("\n{} good images; their scores and areas: r = {}\n", overall_[kNetwork].good,
                      cell(area_correlation_.value, area_correlation_.interval));
  const Way control = strongest_control();
  text += fmt::format("network over '{}': AUROC {:+.3f} [{:+.3f}, {:+.3f}]\n", kTitles[control],
                      overall_[kNetwork].auroc - overall_[control].auroc, lead_[control].low,
                      lead_[control].high);
  return text;
}

}  // namespace convae::app
