#include "convae/models/level_table.h"

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
  return std::to_string(channels) + "x" + to_string(size);
}

std::string level_table(const ModelOptions& model, Size input) {
  const std::vector<LevelSpec>& specs = model.levels;
  const Plan plan = plan_sizes(specs, input, model.channels);
  using Row = std::array<std::string, 5>;
  std::vector<Row> rows = {
      {"level", "convolution", "settings", "transposed convolution", "without output_padding"}};
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const LevelPlan& level = plan.levels[i];
    rows.push_back({std::to_string(i + 1),
                    shape_text(level.in_channels, level.in) + " → " +
                        shape_text(level.out_channels, level.out),
                    settings_text(specs[i]),
                    shape_text(level.out_channels, level.out) + " → " +
                        shape_text(level.in_channels, level.in) + ", output_padding " +
                        std::to_string(level.output_padding.h) + "," +
                        std::to_string(level.output_padding.w),
                    shape_text(level.in_channels, level.without_output_padding())});
  }
  std::array<std::size_t, 5> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool is_last = i + 1 == row.size();
      text += row[i] + (is_last ? "\n" : std::string(widths[i] - width(row[i]) + 2, ' '));
    }
  }
  return text;
}

}  // namespace convae
