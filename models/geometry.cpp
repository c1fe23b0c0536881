#include "convae/models/geometry.h"

#include <fmt/format.h>

#include <algorithm>

namespace convae {
namespace {

// Kernels, strides, paddings and dilations stay below this so that e = d(k-1)+1 and every sum with
// a side of up to kMaxSide fit 64 bits with room to spare.
constexpr std::int64_t kMaxParameter = std::int64_t{1} << 20;
constexpr std::int64_t kMaxChannels = std::int64_t{1} << 20;
constexpr std::size_t kMaxLevels = 64;
constexpr std::int64_t kMaxResidualBlocks = 64;  // of a level

void check_level(const LevelSpec& level, std::size_t index) {
  const auto require = [&](bool holds, const char* name, const std::string& value, int low,
                           std::int64_t high) {
    if (holds) return;
    throw GeometryError(fmt::format("level {}: {} must be between {} and {}, but is {}", index + 1,
                                    name, low, high, value));
  };
  const auto require_sizes = [&](const char* name, Size value, int low) {
    const bool holds =
        std::min(value.h, value.w) >= low && std::max(value.h, value.w) <= kMaxParameter;
    require(holds, name, to_string(value), low, kMaxParameter);
  };
  require(level.channels >= 1 && level.channels <= kMaxChannels, "channels",
          std::to_string(level.channels), 1, kMaxChannels);
  require_sizes("kernel", level.kernel, 1);
  require_sizes("stride", level.stride, 1);
  require_sizes("dilation", level.dilation, 1);
  require_sizes("padding", level.padding, 0);
  require(level.residual_blocks >= 0 && level.residual_blocks <= kMaxResidualBlocks,
          "residual blocks", std::to_string(level.residual_blocks), 0, kMaxResidualBlocks);
}

/// The smallest length that passes all levels along one axis.
std::int64_t smallest_length(const std::vector<LevelSpec>& levels,
                             Axis (LevelSpec::*axis_of)() const) {
  std::int64_t needed = 1;
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    const Axis axis = ((*level).*axis_of)();
    // conv_length(n) >= needed  <=>  n >= (needed - 1)s + e - 2p
    needed = (needed - 1) * axis.stride + axis.span() - 2 * axis.padding;
    needed = std::clamp<std::int64_t>(needed, 1, kMaxSide + 1);
  }
  return needed;
}

std::string describe_failure(const std::vector<LevelSpec>& levels, std::size_t index,
                             const char* axis_name, std::int64_t n, const Axis& axis, Size input) {
  const Size smallest = smallest_input(levels);
  const bool input_is_possible = smallest.h <= kMaxSide && smallest.w <= kMaxSide;
  return fmt::format(
      "input {} cannot pass level {}: its {} is {} there, {} with padding {} on both sides, but "
      "kernel {} with dilation {} spans {}; use {}a padding of at least {} at that level{}",
      to_string(input), index + 1, axis_name, n, n + 2 * axis.padding, axis.padding, axis.kernel,
      axis.dilation, axis.span(),
      input_is_possible ? "an input of at least " + to_string(smallest) + ", or " : "",
      (axis.span() - n + 1) / 2, index > 0 ? ", or fewer levels" : "");
}

/// Fills the plan, or says why `input` cannot pass.
std::optional<std::string> fill_plan(const std::vector<LevelSpec>& levels, Size input,
                                     std::int64_t channels, Plan& plan) {
  check_levels(levels);
  if (input.h < 1 || input.w < 1 || input.h > kMaxSide || input.w > kMaxSide) {
    return fmt::format("an input's sides must be between 1 and {}, but it is {}", kMaxSide,
                       to_string(input));
  }
  plan.input = input;
  Size size = input;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const Axis vertical = levels[i].vertical(), horizontal = levels[i].horizontal();
    const auto h = vertical.conv_length(size.h);
    if (!h) return describe_failure(levels, i, "height", size.h, vertical, input);
    const auto w = horizontal.conv_length(size.w);
    if (!w) return describe_failure(levels, i, "width", size.w, horizontal, input);
    plan.levels.push_back(
        {channels,
         levels[i].channels,
         size,
         {*h, *w},
         {vertical.output_padding_for(size.h), horizontal.output_padding_for(size.w)}});
    channels = levels[i].channels;
    size = {*h, *w};
  }
  return std::nullopt;
}

[[noreturn]] void bad_level(std::string_view text, const std::string& reason) {
  throw GeometryError(fmt::format(
      "level '{}': {}; expected CHANNELS[:kHxWsHxWpHxWdHxWrN], such as 128 or 128:k3x5s2p1", text,
      reason));
}

}  // namespace

std::optional<std::int64_t> Axis::conv_length(std::int64_t n) const {
  const std::int64_t rest = n + 2 * padding - span();
  if (n < 1 || rest < 0) return std::nullopt;
  return rest / stride + 1;
}

std::int64_t Axis::conv_transpose_length(std::int64_t m, std::int64_t output_padding) const {
  return (m - 1) * stride - 2 * padding + span() + output_padding;
}

std::int64_t Axis::output_padding_for(std::int64_t n) const {
  return (n + 2 * padding - span()) % stride;
}

bool Axis::divides_by_stride() const {
  // floor((n + 2p - e) / s) + 1 lies between floor((n - s) / s) + 1 and floor((n - 1) / s) + 1.
  return span() > 2 * padding && span() <= 2 * padding + stride;
}

LevelSpec keeping_size(std::int64_t channels) {
  LevelSpec spec{channels};
  spec.stride = {1, 1};
  return spec;
}

Size smallest_input(const std::vector<LevelSpec>& levels) {
  return {smallest_length(levels, &LevelSpec::vertical),
          smallest_length(levels, &LevelSpec::horizontal)};
}

std::optional<std::string> why_impossible(const std::vector<LevelSpec>& levels, Size input) {
  Plan unused;
  return fill_plan(levels, input, /*channels=*/0, unused);
}

void check_levels(const std::vector<LevelSpec>& levels) {
  if (levels.empty()) throw GeometryError("levels: at least one is needed");
  if (levels.size() > kMaxLevels) {
    throw GeometryError(fmt::format("levels: more than {} are given", kMaxLevels));
  }
  for (std::size_t i = 0; i < levels.size(); ++i) check_level(levels[i], i);
}

Plan plan_sizes(const std::vector<LevelSpec>& levels, Size input, std::int64_t channels) {
  Plan plan;
  if (const auto reason = fill_plan(levels, input, channels, plan)) throw GeometryError(*reason);
  return plan;
}

LevelSpec parse_level(std::string_view text, const LevelSpec& defaults) {
  std::string_view rest = text;
  const auto channels = take_count(rest);
  if (!channels) bad_level(text, "it must start with a number of channels");
  LevelSpec level = defaults;
  level.channels = *channels;
  if (rest.empty()) return level;
  if (rest.front() != ':' || rest.size() == 1) {
    bad_level(text, fmt::format("'{}' after the channels is not understood", rest));
  }
  rest.remove_prefix(1);
  std::string seen;
  while (!rest.empty()) {
    const char letter = rest.front();
    Size* target = letter == 'k'   ? &level.kernel
                   : letter == 's' ? &level.stride
                   : letter == 'p' ? &level.padding
                   : letter == 'd' ? &level.dilation
                                   : nullptr;
    const bool is_count = letter == 'r';
    const auto bad = [&](const char* reason) {
      bad_level(text, fmt::format(fmt::runtime(reason), letter));
    };
    if (target == nullptr && !is_count) bad("'{}' is none of k, s, p, d, r");
    if (seen.find(letter) != std::string::npos) bad("'{}' is given twice");
    seen.push_back(letter);
    rest.remove_prefix(1);
    if (is_count) {
      const auto count = take_count(rest);
      if (!count) bad("'{}' needs a number after it");
      level.residual_blocks = *count;
      continue;
    }
    const auto value = take_size(rest);
    if (!value) bad("'{}' needs a number or HxW after it");
    *target = *value;
  }
  return level;
}

std::vector<LevelSpec> parse_levels(std::string_view text, const LevelSpec& defaults) {
  std::vector<LevelSpec> levels;
  while (true) {
    const std::size_t comma = text.find(',');
    levels.push_back(parse_level(text.substr(0, comma), defaults));
    check_levels(levels);
    if (comma == std::string_view::npos) return levels;
    text.remove_prefix(comma + 1);
  }
}

std::string to_string(const LevelSpec& level) {
  const std::string text =
      fmt::format("{}:k{}s{}p{}d{}", level.channels, to_string(level.kernel),
                  to_string(level.stride), to_string(level.padding), to_string(level.dilation));
  return level.residual_blocks > 0 ? fmt::format("{}r{}", text, level.residual_blocks) : text;
}

std::string to_string(const std::vector<LevelSpec>& levels) {
  std::string text;
  for (const LevelSpec& level : levels) text += (text.empty() ? "" : ",") + to_string(level);
  return text;
}

std::string settings_text(const LevelSpec& level) {
  const auto text = [](Size value) {
    return value.h == value.w ? std::to_string(value.h) : to_string(value);
  };
  std::string settings =
      fmt::format("k{} s{} p{}", text(level.kernel), text(level.stride), text(level.padding));
  if (level.dilation != Size{1, 1}) settings += " d" + text(level.dilation);
  if (level.residual_blocks > 0) settings += fmt::format(" r{}", level.residual_blocks);
  return settings;
}

}  // namespace convae
