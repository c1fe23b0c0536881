#include "convae/inspection/fold_results.h"

#include "convae/core/csv.h"
#include "convae/core/text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <functional>
#include <set>

namespace convae {
namespace {

using FoldsJson = nlohmann::ordered_json;

Spread over_folds(const FoldsResult& result, const std::function<double(const ScoreResult&)>& of) {
  std::vector<double> values;
  for (const ScoreResult& fold : result.folds) values.push_back(of(fold));
  return spread_of(values);
}

FoldsJson spread_json(const Spread& spread) {
  const Interval interval = spread.interval();
  return {{"mean", spread.mean},
          {"sd", spread.deviation},
          {"min", spread.least},
          {"max", spread.most},
          {"interval", {interval.low, interval.high}}};
}

FoldsJson measures_json(const FoldsResult& result, const std::string& kind) {
  FoldsJson json;
  for (const FoldMeasure& measure : kFoldMeasures) {
    json[measure.name] = spread_json(spread_of(result, measure, kind));
  }
  return json;
}

std::string csv_start(std::size_t fold, const std::string& kind, const Measures& m) {
  std::string row = fmt::format("{},{},{},{}", fold + 1, csv_field(kind), m.good, m.anomalous);
  for (const FoldMeasure& measure : kFoldMeasures) row += "," + csv_number(measure.of(m));
  return row;
}

}  // namespace

std::vector<std::string> kinds_of(const FoldsResult& result) {
  std::set<std::string> kinds;
  for (const ScoreResult& fold : result.folds) {
    for (const auto& [kind, measures] : fold.kinds) kinds.insert(kind);
  }
  return {kinds.begin(), kinds.end()};
}

Spread spread_of(const FoldsResult& result, const FoldMeasure& measure, const std::string& kind) {
  return over_folds(result, [&](const ScoreResult& fold) {
    if (kind.empty()) return measure.of(fold.overall[kNetwork]);
    const auto found = fold.kinds.find(kind);
    return found == fold.kinds.end() ? kNoValue : measure.of(found->second);
  });
}

Spread control_auroc(const FoldsResult& result, Way control) {
  return over_folds(result,
                    [&](const ScoreResult& fold) { return fold.overall[control].auroc.value; });
}

Spread lead_over(const FoldsResult& result, Way control) {
  return over_folds(result, [&](const ScoreResult& fold) { return fold.lead[control].value; });
}

std::string to_csv(const FoldsResult& result) {
  std::string text = "fold,kind,good,anomalous";
  for (const FoldMeasure& measure : kFoldMeasures) text += std::string(",") + measure.name;
  for (const Way control : kControls) text += "," + key_of(control) + "_auroc";
  text += ",lead,threshold\n";
  for (std::size_t i = 0; i < result.folds.size(); ++i) {
    const ScoreResult& fold = result.folds[i];
    text += csv_start(i, "all", fold.overall[kNetwork]);
    for (const Way control : kControls) text += "," + csv_number(fold.overall[control].auroc.value);
    text += fmt::format(",{},{}\n", csv_number(fold.lead[kNoNetwork].value),
                        csv_number(fold.thresholds[kNetwork]));
    const std::string rest(kControls.size() + 2, ',');
    for (const auto& [kind, m] : fold.kinds) text += csv_start(i, kind, m) + rest + "\n";
  }
  return text;
}

std::string to_json(const FoldsResult& result, int indent) {
  FoldsJson json = {{"folds", result.folds.size()},
                    {"groups", result.groups},
                    {"good", result.good},
                    {"fpr", result.rate}};
  json.update(measures_json(result, ""));
  for (const Way control : kControls) {
    json["controls"][key_of(control)] = {
        {"image_auroc", spread_json(control_auroc(result, control))},
        {"lead_of_network", spread_json(lead_over(result, control))}};
  }
  json["kinds"] = FoldsJson::object();
  for (const std::string& kind : kinds_of(result)) {
    json["kinds"][json_text(kind)] = measures_json(result, kind);
  }
  json["each"] = FoldsJson::array();
  for (const ScoreResult& fold : result.folds)
    json["each"].push_back(FoldsJson::parse(to_json(fold)));
  return json.dump(indent);
}

}  // namespace convae
