#include "convae/inspection/results.h"

#include "convae/core/csv.h"
#include "convae/core/text.h"
#include "convae/data/layout.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>

namespace convae {
namespace {

using nlohmann::ordered_json;

ordered_json json_of(const Interval& interval) {
  if (std::isnan(interval.low)) return nullptr;
  return {interval.low, interval.high};
}

void add(ordered_json& json, const std::string& key, const Estimate& estimate) {
  json[key] = estimate.value;  // written as null where it is NaN, as all numbers here
  json[key + "_interval"] = json_of(estimate.interval);
}

ordered_json json_of(const Measures& m) {
  ordered_json json;
  json["good"] = m.good;
  json["anomalous"] = m.anomalous;
  add(json, "image_auroc", m.auroc);
  add(json, "average_precision", m.average_precision);
  json["f1"] = m.at_threshold.f1();
  json["precision"] = m.at_threshold.precision();
  json["recall"] = m.at_threshold.recall();
  json["false_positive_rate"] = m.at_threshold.false_positive_rate();
  json["pixel_auroc"] = m.pixel_auroc;
  json["pro"] = m.pro;
  json["regions"] = m.regions;
  return json;
}

void add_measures(ordered_json& json, const ScoreResult& result) {
  json.update(json_of(result.overall[kNetwork]));
  json["kinds"] = ordered_json::object();
  for (const auto& [kind, m] : result.kinds) json["kinds"][json_text(kind)] = json_of(m);
  json[key_of(kResidualAlone)] = json_of(result.overall[kResidualAlone]);
  for (const Way way : kControls) {
    ordered_json control = json_of(result.overall[way]);
    control["threshold"] = result.thresholds[way];
    add(control, "lead_of_network", result.lead[way]);
    json["controls"][key_of(way)] = std::move(control);
  }
  json["beats_controls"] = result.compares() ? ordered_json(result.beats_controls) : nullptr;
}

/// A score that follows the area of good images more than this measures sizes.
constexpr double kMostAreaCorrelation = 0.2;
constexpr std::int64_t kFewestForCorrelation = 4;  // two always have one

using Images = std::vector<const ScoredImage*>;

ScoredImages labelled(const Images& images, Way way) {
  ScoredImages scored;
  for (const ScoredImage* image : images) {
    scored.add(image->scores[way], image->label != kGoodLabel);
  }
  return scored;
}

/// A measure of the images, and its interval over samples of their groups.
template <typename Measure>
Estimate estimate(const Images& images, std::uint64_t seed, const Measure& measure) {
  std::map<std::string, std::vector<std::int64_t>> by_group;
  for (std::size_t i = 0; i < images.size(); ++i) {
    by_group[images[i]->group].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<std::vector<std::int64_t>> groups;
  for (auto& [group, members] : by_group) groups.push_back(std::move(members));
  const auto of_sample = [&](std::span<const std::int64_t> drawn) {
    Images sample;
    sample.reserve(drawn.size());
    for (const std::int64_t i : drawn) sample.push_back(images[static_cast<std::size_t>(i)]);
    return measure(sample);
  };
  return {measure(images), bootstrap_interval(groups, of_sample, {.seed = seed})};
}

/// Good images and those of one kind of defect, or of all where that is "".
Images images_of_kind(const Scores& scores, const std::string& kind) {
  Images images;
  for (const ScoredImage& image : scores.images) {
    const bool good = image.label == kGoodLabel;
    if (!image.label.empty() && (good || kind.empty() || image.label == kind)) {
      images.push_back(&image);
    }
  }
  return images;
}

/// Of good images and those of one kind, or of all.
void add_pixels(Measures& m, const std::map<std::string, PixelMetrics>& pixels,
                const std::string& kind) {
  if (pixels.empty()) return;
  PixelMetrics sum;
  for (const auto& [label, metrics] : pixels) {
    if (kind.empty() || label == kind || label == kGoodLabel) sum += metrics.counts();
  }
  m.pixel_auroc = sum.auroc();
  m.pro = sum.pro();
  m.regions = sum.regions();
}

Measures measures(const Scores& scores, Way way, const std::string& kind, std::uint64_t seed) {
  const Images images = images_of_kind(scores, kind);
  const ScoredImages all = labelled(images, way);
  const auto of = [&](double (*measure)(const ScoredImages&)) {
    return estimate(images, seed,
                    [&](const Images& sample) { return measure(labelled(sample, way)); });
  };
  Measures m;
  m.anomalous = std::ranges::count(all.anomalous, true);
  m.good = std::ssize(images) - m.anomalous;
  m.auroc = of(&auroc);
  if (m.good > 0) m.average_precision = of(&average_precision);
  m.at_threshold = detections(all, scores.thresholds[way]);
  add_pixels(m, scores.pixels[way], kind);
  return m;
}

/// How far a way tells images apart, whichever way round: small images may be the bad ones.
double usefulness(const ScoreResult& result, Way way) {
  const double value = result.overall[way].auroc.value;
  return way == kArea ? std::max(value, 1 - value) : value;
}

void measure_kinds(ScoreResult& result, std::uint64_t seed) {
  std::set<std::string> kinds;
  for (const ScoredImage& image : result.images) kinds.insert(image.label);
  kinds.erase("");
  result.labelled = !kinds.empty();
  if (!result.labelled) return;
  kinds.erase(kGoodLabel);
  for (std::size_t way = 0; way < kWays; ++way) {
    result.overall[way] = measures(result, static_cast<Way>(way), "", seed);
  }
  for (const std::string& kind : kinds) {
    result.kinds[kind] = measures(result, kNetwork, kind, seed);
  }
  if (!result.compares()) return;
  const Images all = images_of_kind(result, "");
  for (const Way control : kControls) {
    const bool is_turned = usefulness(result, control) > result.overall[control].auroc.value;
    result.lead[control] = estimate(all, seed, [&](const Images& sample) {
      const double theirs = auroc(labelled(sample, control));
      return auroc(labelled(sample, kNetwork)) - (is_turned ? 1 - theirs : theirs);
    });
    if (usefulness(result, control) > usefulness(result, result.strongest_control)) {
      result.strongest_control = control;
    }
  }
  result.beats_controls =
      usefulness(result, kNetwork) > usefulness(result, result.strongest_control);
}

std::string about_controls(const ScoreResult& result) {
  const Way control = result.strongest_control;
  const double ours = usefulness(result, kNetwork), theirs = usefulness(result, control);
  const Interval& lead = result.lead[control].interval;
  if (!result.beats_controls) {
    return fmt::format("the network does not beat the control '{}': AUROC {:.3f} against {:.3f}",
                       to_string(control), ours, theirs);
  }
  if (lead.low > 0 || std::isnan(lead.low) || control == kArea) return "";
  return fmt::format(
      "the network's lead over the control '{}' may be chance: AUROC {:.3f} against {:.3f}, "
      "difference in [{:.3f}, {:.3f}]",
      to_string(control), ours, theirs, lead.low, lead.high);
}

std::vector<std::string> warnings(const ScoreResult& result) {
  std::vector<std::string> warnings;
  const std::string doubt = result.calibration.doubt(result.rate);
  if (!doubt.empty()) warnings.push_back(doubt);
  const std::string controls = result.compares() ? about_controls(result) : "";
  if (!controls.empty()) warnings.push_back(controls);
  const auto& [r, interval] = result.area_correlation;
  if (std::abs(r) > kMostAreaCorrelation &&
      result.overall[kNetwork].good >= kFewestForCorrelation) {
    const bool is_sure = interval.low > 0 || interval.high < 0;  // not where there is no interval
    warnings.push_back(fmt::format("scores of good images follow their area{}: r = {}",
                                   is_sure ? "" : ", which may be chance",
                                   to_string(result.area_correlation)));
  }
  return warnings;
}

}  // namespace

const char* to_string(Way way) {
  constexpr PerWay<const char*> kTitles = {"network", "residual alone", "no network", "mean error",
                                           "image area"};
  return kTitles[way];
}

std::string key_of(Way way) {
  std::string key = to_string(way);
  std::replace(key.begin(), key.end(), ' ', '_');
  return key;
}

std::string to_string(const Estimate& estimate) {
  const auto& [value, interval] = estimate;
  if (std::isnan(value)) return "-";
  if (std::isnan(interval.low)) return fmt::format("{:.3f}", value);
  return fmt::format("{:.3f} [{:.3f}, {:.3f}]", value, interval.low, interval.high);
}

std::string to_string(const MaskCount& masks) {
  std::string missing;
  for (const auto& [reason, count] : masks.missing) {
    missing += fmt::format("{}{} {}", missing.empty() ? " (" : ", ", count, reason);
  }
  return fmt::format("masks found for {} of {} images with defects{}{}", masks.found, masks.images,
                     missing, missing.empty() ? "" : ")");
}

std::string to_csv(const Scores& scores) {
  std::string text = "path,label,score,anomalous\n";
  for (const ScoredImage& image : scores.images) {
    text += fmt::format("{},{},{},{:d}\n", csv_field(image.name), csv_field(image.label),
                        csv_number(image.scores[kNetwork]), scores.anomalous(image));
  }
  return text;
}

std::string to_json(const ScoreResult& result, int indent) {
  ordered_json json;
  json["images"] = result.images.size();
  json["skipped"] = result.skipped.size();
  json["anomalous_images"] = result.anomalous_images;
  json["threshold"] = result.thresholds[kNetwork];
  json["fpr"] = result.rate;
  json["calibration"] = {{"images", result.calibration.images()},
                         {"groups", result.calibration.groups},
                         {"training_images", result.calibration.training_images},
                         {"precision", to_string(result.calibration.precision)},
                         {"smallest_fpr", result.smallest_rate}};
  json["labelled"] = result.labelled;
  if (result.labelled) {
    json["masks"] = {{"images", result.masks.images},
                     {"found", result.masks.found},
                     {"missing", result.masks.missing}};
  }
  add(json, "score_area_correlation", result.area_correlation);
  if (result.labelled) add_measures(json, result);
  json["warnings"] = result.warnings;
  if (result.heat_full_scale > 0) json["heat_full_scale"] = result.heat_full_scale;
  return json.dump(indent);
}

void require_false_alarms(double fpr) {
  require_option(fpr > 0 && fpr < 1, "--fpr '" + number_text(fpr) +
                                         "': expected a share between 0 and 1, such as 0.01");
}

PerWay<double> Calibration::thresholds(double rate) const {
  require_false_alarms(rate);
  PerWay<double> thresholds{};
  for (std::size_t way = 0; way < kWays; ++way) {
    thresholds[way] = threshold_for_rate(scores[way], rate);
  }
  return thresholds;
}

std::string Calibration::doubt(double rate) const {
  const double smallest = smallest_rate(images());
  if (rate >= smallest) return "";
  return fmt::format(
      "{} good images cannot show a rate of {:g}: the threshold is the highest of their scores, "
      "which about {:.1f} % of good images exceed; calibrate with more (convae calibrate --good "
      "DIR), or train with a larger --val-split",
      images(), rate, 100 * smallest);
}

ScoreResult summarize(Scores scores, std::uint64_t seed) {
  ScoreResult result;
  static_cast<Scores&>(result) = std::move(scores);
  result.anomalous_images = std::ranges::count_if(
      result.images, [&](const ScoredImage& image) { return result.anomalous(image); });
  result.smallest_rate = smallest_rate(result.calibration.images());
  const Images good = images_of_kind(result, kGoodLabel);
  result.area_correlation = estimate(good, seed, [](const Images& sample) {
    return correlation(labelled(sample, kNetwork).scores, labelled(sample, kArea).scores);
  });
  measure_kinds(result, seed);
  result.warnings = warnings(result);
  return result;
}

}  // namespace convae
