#include "convae/models/plan_text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <vector>

namespace convae {
namespace {

/// Code points, so that arrows do not shift the columns.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string shape_text(std::int64_t channels, Size size) {
  return fmt::format("{}x{}", channels, to_string(size));
}

std::string level_table(const ModelOptions& model, Size input) {
  const Plan plan = plan_sizes(model.levels, input, model.channels);
  using Row = std::array<std::string, 5>;
  std::vector<Row> rows = {
      {"level", "convolution", "settings", "transposed convolution", "without output_padding"}};
  for (std::size_t i = 0; i < plan.levels.size(); ++i) {
    const LevelPlan& level = plan.levels[i];
    const std::string outer = shape_text(level.in_channels, level.in);
    const std::string inner = shape_text(level.out_channels, level.out);
    rows.push_back({std::to_string(i + 1), outer + " → " + inner, settings_text(model.levels[i]),
                    fmt::format("{} → {}, output_padding {},{}", inner, outer,
                                level.output_padding.h, level.output_padding.w),
                    shape_text(level.in_channels, level.without_output_padding())});
  }
  std::array<std::size_t, 5> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      text += row[i] + std::string(widths[i] - width(row[i]) + 2, ' ');
    }
    text += row.back() + "\n";
  }
  return text;
}

std::string detector_line(const ModelOptions& model, Size input) {
  if (model.detector.empty()) return "";
  std::string text = "detector  ";
  for (std::size_t i = 0; i < model.detector.size(); ++i) {
    text += shape_text(model.detector[i], detector_map(input, i)) + " → ";
  }
  return text + shape_text(1, input);
}

std::string plan_json(const ModelOptions& model, Size input) {
  using nlohmann::ordered_json;
  const auto shape = [](std::int64_t channels, Size size) {
    return ordered_json{channels, size.h, size.w};
  };
  ordered_json levels = ordered_json::array();
  for (const LevelPlan& level : plan_sizes(model.levels, input, model.channels).levels) {
    const ordered_json outer = shape(level.in_channels, level.in);
    const ordered_json inner = shape(level.out_channels, level.out);
    levels.push_back({{"conv", {{"in", outer}, {"out", inner}}},
                      {"convT",
                       {{"in", inner},
                        {"output_padding", per_axis(level.output_padding)},
                        {"without", shape(level.in_channels, level.without_output_padding())},
                        {"out", outer}}}});
    const std::int64_t blocks = model.levels[levels.size() - 1].residual_blocks;
    if (blocks > 0) levels.back()["residual_blocks"] = blocks;
  }
  const ordered_json image = shape(model.channels, input);
  ordered_json json = {
      {"input", image}, {"levels", levels}, {"latent", nullptr}, {"output", image}};
  if (model.has_latents()) json["latent"] = model.latent_shape(input);
  for (std::size_t i = 0; i < model.detector.size(); ++i) {
    json["detector"].push_back(shape(model.detector[i], detector_map(input, i)));
  }
  return json.dump();
}

}  // namespace convae
