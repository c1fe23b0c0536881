#include "convae/inspection/results.h"

#include "convae/core/csv.h"
#include "convae/core/text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace convae {
namespace {

using nlohmann::ordered_json;

/// "no_network".
std::string key_of(Way way) {
  std::string key = to_string(way);
  std::replace(key.begin(), key.end(), ' ', '_');
  return key;
}

ordered_json json_of(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

ordered_json json_of(const Interval& interval) {
  if (std::isnan(interval.low)) return nullptr;
  return {interval.low, interval.high};
}

void add(ordered_json& json, const std::string& key, const Estimate& estimate) {
  json[key] = json_of(estimate.value);
  json[key + "_interval"] = json_of(estimate.interval);
}

ordered_json json_of(const Measures& m) {
  ordered_json json;
  json["good"] = m.good;
  json["anomalous"] = m.anomalous;
  add(json, "image_auroc", m.auroc);
  add(json, "average_precision", m.average_precision);
  json["f1"] = json_of(m.at_threshold.f1());
  json["precision"] = json_of(m.at_threshold.precision());
  json["recall"] = json_of(m.at_threshold.recall());
  json["false_positive_rate"] = json_of(m.at_threshold.false_positive_rate());
  json["pixel_auroc"] = json_of(m.pixel_auroc);
  json["pro"] = json_of(m.pro);
  json["regions"] = m.regions;
  return json;
}

void add_measures(ordered_json& json, const ScoreResult& result) {
  json.update(json_of(result.overall[kNetwork]));
  for (const auto& [kind, m] : result.kinds) json["kinds"][printable(kind)] = json_of(m);
  json[key_of(kResidualAlone)] = json_of(result.overall[kResidualAlone]);
  for (const Way way : kControls) {
    ordered_json control = json_of(result.overall[way]);
    control["threshold"] = json_of(result.thresholds[way]);
    add(control, "lead_of_network", result.lead[way]);
    json["controls"][key_of(way)] = std::move(control);
  }
  json["beats_controls"] = result.beats_controls;
}

}  // namespace

const char* to_string(Way way) {
  constexpr PerWay<const char*> kTitles = {"network", "residual alone", "no network", "mean error",
                                           "image area"};
  return kTitles[way];
}

std::string to_string(const Estimate& estimate) {
  const auto& [value, interval] = estimate;
  if (std::isnan(value)) return "-";
  if (std::isnan(interval.low)) return fmt::format("{:.3f}", value);
  return fmt::format("{:.3f} [{:.3f}, {:.3f}]", value, interval.low, interval.high);
}

std::string to_csv(const Scores& scores) {
  std::string text = "path,label,score,anomalous\n";
  for (const ScoredImage& image : scores.images) {
    text += csv_field(image.name) + "," + csv_field(image.label) + "," +
            csv_number(image.scores[kNetwork]) + (scores.anomalous(image) ? ",1\n" : ",0\n");
  }
  return text;
}

std::string to_json(const ScoreResult& result, int indent) {
  ordered_json json;
  json["images"] = result.images.size();
  json["skipped"] = result.skipped.size();
  json["anomalous_images"] = result.anomalous_images;
  json["threshold"] = json_of(result.thresholds[kNetwork]);
  json["fpr"] = result.rate;
  json["calibration"] = {{"images", result.calibration.images()},
                         {"groups", result.calibration.groups},
                         {"training_images", result.calibration.training_images},
                         {"smallest_fpr", result.smallest_rate}};
  json["labelled"] = result.labelled;
  add(json, "score_area_correlation", result.area_correlation);
  if (result.labelled) add_measures(json, result);
  json["warnings"] = result.warnings;
  if (result.heat_full_scale > 0) json["heat_full_scale"] = result.heat_full_scale;
  return json.dump(indent);
}

}  // namespace convae
