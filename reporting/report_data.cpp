#include "convae/reporting/report_data.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace convae {
namespace {

using nlohmann::ordered_json;

constexpr double kBins = 20;  // of the histogram, about

ordered_json pair_json(Size pair) { return {pair.h, pair.w}; }

ordered_json shape_json(std::int64_t channels, Size size) { return {channels, size.h, size.w}; }

/// The smallest of 1, 2 or 5 times a power of ten that is at least `value`.
double round_up(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (step * power >= value) return step * power;
  }
  return 10 * power;
}

}  // namespace

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
  std::set<std::size_t> places;
  for (const std::size_t place : spread(rows.size(), at_most)) places.insert(place);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].epoch == best_epoch) places.insert(i);
  }
  ordered_json columns = ordered_json::object();
  const auto column = [&](const char* name, auto value_of) {
    ordered_json values = ordered_json::array();
    for (const std::size_t place : places) values.push_back(value_of(rows[place]));
    columns[name] = std::move(values);
  };
  column("epoch", [](const MetricsRow& row) { return row.epoch; });
  column("step", [](const MetricsRow& row) { return row.step; });
  column("lr", [](const MetricsRow& row) { return row.lr; });
  column("train_loss", [](const MetricsRow& row) { return row.train_loss; });
  column("val_loss", [](const MetricsRow& row) { return row.val_loss; });
  column("val_mse", [](const MetricsRow& row) { return row.val_mse; });
  column("val_psnr", [](const MetricsRow& row) { return row.val_psnr; });
  column("val_ssim", [](const MetricsRow& row) { return row.val_ssim; });
  column("images_per_s", [](const MetricsRow& row) { return row.images_per_s; });
  column("seconds", [](const MetricsRow& row) { return row.seconds; });
  return columns;
}

ordered_json histogram_json(const std::vector<ImageQuality>& images) {
  std::vector<double> errors;
  for (const ImageQuality& image : images) {
    if (std::isfinite(image.mse) && image.mse >= 0) errors.push_back(std::sqrt(image.mse));
  }
  if (errors.empty()) return nullptr;
  const auto [least, most] = std::minmax_element(errors.begin(), errors.end());
  const double range = std::max(*most - *least, *most * 1e-3);
  const double width = range > 0 ? round_up(range / kBins) : 1e-3;
  const double first = std::floor(*least / width);
  std::vector<std::int64_t> counts(static_cast<std::size_t>(std::floor(*most / width) - first) + 1);
  for (const double error : errors) {
    ++counts[static_cast<std::size_t>(std::floor(error / width) - first)];
  }
  return {{"width", width}, {"start", first * width}, {"counts", counts}};
}

ordered_json model_json(const ModelOptions& model, Size input) {
  const std::vector<LevelSpec> specs = model.levels;
  const Plan plan = plan_sizes(specs, input, model.channels);
  ordered_json levels = ordered_json::array();
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const LevelPlan& level = plan.levels[i];
    levels.push_back({{"in", shape_json(level.in_channels, level.in)},
                      {"out", shape_json(level.out_channels, level.out)},
                      {"kernel", pair_json(specs[i].kernel)},
                      {"stride", pair_json(specs[i].stride)},
                      {"padding", pair_json(specs[i].padding)},
                      {"dilation", pair_json(specs[i].dilation)},
                      {"output_padding", pair_json(level.output_padding)},
                      {"without", shape_json(level.in_channels, level.without_output_padding())}});
  }
  return {{"input", shape_json(model.channels, input)},
          {"latent", model.latent_shape(input)},
          {"parameters", model.parameter_count()},
          {"levels", std::move(levels)}};
}

std::string script_json(const ordered_json& data) {
  const std::string text = data.dump(/*indent=*/-1, /*indent_char=*/' ', /*ensure_ascii=*/false,
                                     ordered_json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";  // "</script>" and "<!--" would end it
    } else {
      safe += c;
    }
  }
  return safe;
}

}  // namespace convae
