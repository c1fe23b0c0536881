#include "convae/reporting/report_data.h"

#include "convae/models/plan_text.h"
#include "convae/reporting/page.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>

namespace convae {

using nlohmann::ordered_json;

std::vector<std::size_t> spread(std::size_t count, std::size_t at_most) {
  std::vector<std::size_t> places;
  const std::size_t taken = std::min(count, at_most);
  for (std::size_t i = 0; i < taken; ++i) {
    places.push_back(taken == 1 ? count - 1 : i * (count - 1) / (taken - 1));
  }
  return places;
}

ordered_json metrics_json(const std::vector<MetricsRow>& rows, std::size_t at_most,
                          std::int64_t best_epoch) {
  const std::vector<std::size_t> evenly = spread(rows.size(), at_most);
  std::set<std::size_t> places(evenly.begin(), evenly.end());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].epoch == best_epoch) places.insert(i);
  }
  ordered_json columns = ordered_json::object();
  const auto column = [&](const char* name, auto MetricsRow::*member) {
    ordered_json& values = columns[name] = ordered_json::array();
    for (const std::size_t place : places) values.push_back(rows[place].*member);
  };
  column("epoch", &MetricsRow::epoch);
  column("step", &MetricsRow::step);
  for (const auto& [name, member] : kMetricsColumns) column(name, member);
  return columns;
}

ordered_json rate_test_json(const std::vector<RatePoint>& curve, double chosen) {
  if (curve.size() < 2) return nullptr;
  ordered_json result = {{"chosen", chosen}};
  for (const auto& [rate, loss] : curve) {
    result["rates"].push_back(rate);
    result["losses"].push_back(loss);
  }
  return result;
}

ordered_json histogram_json(const std::vector<ImageQuality>& images) {
  std::vector<double> errors;
  for (const ImageQuality& image : images) {
    if (std::isfinite(image.mse) && image.mse >= 0) errors.push_back(std::sqrt(image.mse));
  }
  if (errors.empty()) return nullptr;
  const Bins bins = bins_between(std::ranges::min(errors), std::ranges::max(errors));
  return {{"width", bins.width}, {"start", bins.start}, {"counts", bins.counts(errors)}};
}

ordered_json model_json(const ModelOptions& model, Size input) {
  ordered_json result = ordered_json::parse(plan_json(model, input));
  result["parameters"] = model.parameter_count();
  for (const LevelSpec& level : model.levels) result["settings"].push_back(settings_text(level));
  return result;
}

std::string script_json(const ordered_json& data) {
  const std::string text = data.dump(/*indent=*/-1, /*indent_char=*/' ', /*ensure_ascii=*/false,
                                     ordered_json::error_handler_t::replace);
  std::string safe;
  for (const char c : text) {
    safe += c == '<' ? "\\u003c" : std::string(1, c);  // "</script>" and "<!--" would end it
  }
  return safe;
}

}  // namespace convae
