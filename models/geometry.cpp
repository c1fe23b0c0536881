#include "convae/models/geometry.h"

#include <algorithm>
#include <array>
#include <limits>

namespace convae {
namespace {

// Kernels, strides, paddings and dilations stay below this so that e = d(k-1)+1 and every sum with
// a side of up to kMaxSide fit 64 bits with room to spare.
constexpr std::int64_t kMaxParameter = std::int64_t{1} << 20;
constexpr std::int64_t kMaxChannels = std::int64_t{1} << 20;
constexpr std::size_t kMaxLevels = 64;

struct AxisSpec {
  std::int64_t kernel, stride, padding, dilation;
  std::int64_t span() const { return dilation * (kernel - 1) + 1; }
};

AxisSpec vertical(const LevelSpec& level) {
  return {level.kernel.h, level.stride.h, level.padding.h, level.dilation.h};
}

AxisSpec horizontal(const LevelSpec& level) {
  return {level.kernel.w, level.stride.w, level.padding.w, level.dilation.w};
}

std::optional<std::int64_t> conv_length(std::int64_t n, const AxisSpec& axis) {
  return convae::conv_length(n, axis.kernel, axis.stride, axis.padding, axis.dilation);
}

std::int64_t smallest_length(const std::vector<LevelSpec>& levels,
                             AxisSpec (*axis)(const LevelSpec&)) {
  std::int64_t needed = 1;
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    const AxisSpec spec = axis(*level);
    // conv_length(n) >= needed  <=>  n >= (needed - 1)s + e - 2p
    needed = std::max<std::int64_t>(1, (needed - 1) * spec.stride + spec.span() - 2 * spec.padding);
    needed = std::min(needed, kMaxSide + 1);
  }
  return needed;
}

std::string describe_failure(const std::vector<LevelSpec>& levels, std::size_t index,
                             const char* axis_name, std::int64_t n, const AxisSpec& axis,
                             Size input) {
  const std::int64_t padding_needed = (axis.span() - n + 1) / 2;
  const Size smallest = smallest_input(levels);
  const bool input_is_possible = smallest.h <= kMaxSide && smallest.w <= kMaxSide;
  return "input " + to_string(input) + " cannot pass level " + std::to_string(index + 1) +
         ": its " + axis_name + " is " + std::to_string(n) + " there, " +
         std::to_string(n + 2 * axis.padding) + " with padding " + std::to_string(axis.padding) +
         " on both sides, but kernel " + std::to_string(axis.kernel) + " with dilation " +
         std::to_string(axis.dilation) + " spans " + std::to_string(axis.span()) + "; use " +
         (input_is_possible ? "an input of at least " + to_string(smallest) + ", " : "") +
         "padding " + std::to_string(padding_needed) + " at that level, or fewer levels";
}

[[noreturn]] void bad_level(std::string_view text, const std::string& reason) {
  throw GeometryError("level '" + std::string(text) + "': " + reason +
                      "; expected CHANNELS[:kHxWsHxWpHxWdHxW], such as 128 or 128:k3x5s2p1");
}

}  // namespace

std::optional<std::int64_t> conv_length(std::int64_t n, std::int64_t kernel, std::int64_t stride,
                                        std::int64_t padding, std::int64_t dilation) {
  const std::int64_t rest = n + 2 * padding - (dilation * (kernel - 1) + 1);
  if (n < 1 || rest < 0) return std::nullopt;
  return rest / stride + 1;
}

std::int64_t conv_transpose_length(std::int64_t m, std::int64_t kernel, std::int64_t stride,
                                   std::int64_t padding, std::int64_t dilation,
                                   std::int64_t output_padding) {
  return (m - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding;
}

std::int64_t output_padding_for(std::int64_t n, std::int64_t kernel, std::int64_t stride,
                                std::int64_t padding, std::int64_t dilation) {
  return (n + 2 * padding - (dilation * (kernel - 1) + 1)) % stride;
}

void check_level(const LevelSpec& level, std::size_t index) {
  const auto require = [&](bool holds, const char* name, const std::string& value,
                           const std::string& expected) {
    if (!holds) {
      throw GeometryError("level " + std::to_string(index + 1) + ": " + name + " must be " +
                          expected + ", but is " + value);
    }
  };
  const auto within = [](Size value, std::int64_t low) {
    return value.h >= low && value.w >= low && value.h <= kMaxParameter && value.w <= kMaxParameter;
  };
  const std::string from_one = "between 1 and " + std::to_string(kMaxParameter);
  require(level.channels >= 1 && level.channels <= kMaxChannels, "channels",
          std::to_string(level.channels), "between 1 and " + std::to_string(kMaxChannels));
  require(within(level.kernel, 1), "kernel", to_string(level.kernel), from_one);
  require(within(level.stride, 1), "stride", to_string(level.stride), from_one);
  require(within(level.dilation, 1), "dilation", to_string(level.dilation), from_one);
  require(within(level.padding, 0), "padding", to_string(level.padding),
          "between 0 and " + std::to_string(kMaxParameter));
}

Size smallest_input(const std::vector<LevelSpec>& levels) {
  return {smallest_length(levels, vertical), smallest_length(levels, horizontal)};
}

std::optional<std::string> why_impossible(const std::vector<LevelSpec>& levels, Size input) {
  if (input.h < 1 || input.w < 1 || input.h > kMaxSide || input.w > kMaxSide) {
    return "an input's sides must be between 1 and " + std::to_string(kMaxSide) + ", but it is " +
           to_string(input);
  }
  Size size = input;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto h = conv_length(size.h, vertical(levels[i]));
    if (!h) return describe_failure(levels, i, "height", size.h, vertical(levels[i]), input);
    const auto w = conv_length(size.w, horizontal(levels[i]));
    if (!w) return describe_failure(levels, i, "width", size.w, horizontal(levels[i]), input);
    size = {*h, *w};
  }
  return std::nullopt;
}

void check_levels(const std::vector<LevelSpec>& levels) {
  if (levels.empty()) throw GeometryError("levels: at least one is needed");
  if (levels.size() > kMaxLevels) {
    throw GeometryError("levels: more than " + std::to_string(kMaxLevels) + " are given");
  }
  for (std::size_t i = 0; i < levels.size(); ++i) check_level(levels[i], i);
}

Plan plan_sizes(const std::vector<LevelSpec>& levels, Size input, std::int64_t channels) {
  for (std::size_t i = 0; i < levels.size(); ++i) check_level(levels[i], i);
  if (const auto reason = why_impossible(levels, input)) throw GeometryError(*reason);
  Plan plan{input, {}};
  Size size = input;
  for (const LevelSpec& level : levels) {
    const AxisSpec v = vertical(level);
    const AxisSpec u = horizontal(level);
    const Size out{*conv_length(size.h, v), *conv_length(size.w, u)};
    const Size output_padding{
        output_padding_for(size.h, v.kernel, v.stride, v.padding, v.dilation),
        output_padding_for(size.w, u.kernel, u.stride, u.padding, u.dilation)};
    plan.levels.push_back({channels, level.channels, size, out, output_padding});
    channels = level.channels;
    size = out;
  }
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
    bad_level(text, "'" + std::string(rest) + "' after the channels is not understood");
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
    if (target == nullptr) bad_level(text, std::string("'") + letter + "' is none of k, s, p, d");
    if (seen.find(letter) != std::string::npos) {
      bad_level(text, std::string("'") + letter + "' is given twice");
    }
    seen.push_back(letter);
    rest.remove_prefix(1);
    const auto value = take_size(rest);
    if (!value) bad_level(text, std::string("'") + letter + "' needs a number or HxW after it");
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
  return std::to_string(level.channels) + ":k" + to_string(level.kernel) + "s" +
         to_string(level.stride) + "p" + to_string(level.padding) + "d" + to_string(level.dilation);
}

std::string to_string(const std::vector<LevelSpec>& levels) {
  std::string text;
  for (const LevelSpec& level : levels) text += (text.empty() ? "" : ",") + to_string(level);
  return text;
}

}  // namespace convae
