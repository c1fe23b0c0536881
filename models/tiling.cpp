#include "convae/models/tiling.h"

#include "convae/models/detector.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace convae {
namespace {

/// Of a division by a positive number.
std::int64_t rounded_down(std::int64_t a, std::int64_t b) {
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}
std::int64_t rounded_up(std::int64_t a, std::int64_t b) { return -rounded_down(-a, b); }

/// A map of a window, along one axis: where it lies in the whole picture's map and what of it is
/// right.
struct Stretch {
  bool at_start = false, at_end = false;  ///< of the picture
  Span right;                             ///< counted in the whole picture's map
  std::int64_t origin = 0;                ///< where the window's map begins there
  std::int64_t own = 0;                   ///< length of the window's map …
  std::int64_t full = 0;                  ///< … and of the whole picture's

  /// What is right, given what that would be where the window's ends count for nothing.
  void set_right(std::int64_t begin, std::int64_t end) {
    right.begin = at_start ? 0 : std::max(begin, origin);
    right.end = at_end ? full : std::min({end, full, origin + own});
  }
  void limit_to(const Stretch& other) {
    right.begin = std::max(right.begin, other.right.begin);
    right.end = std::min(right.end, other.right.end);
  }
};

std::optional<Stretch> convolved(const Stretch& x, const Axis& axis) {
  const auto own = axis.conv_length(x.own), full = axis.conv_length(x.full);
  if (!own || !full) return std::nullopt;
  Stretch y{x.at_start, x.at_end, {}, x.origin / axis.stride, *own, *full};
  y.set_right(rounded_up(x.right.begin + axis.padding, axis.stride),
              rounded_down(x.right.end - axis.span() + axis.padding, axis.stride) + 1);
  return y;
}

/// Back to the lengths of `like`.
Stretch convolved_back(const Stretch& x, const Axis& axis, const Stretch& like) {
  Stretch y = like;
  y.set_right((x.right.begin - 1) * axis.stride + axis.span() - axis.padding,
              x.right.end * axis.stride - axis.padding);
  return y;
}

/// See models/shortcut.h.
void limit_to_shuffled_down(Stretch& y, const Stretch& x, std::int64_t stride) {
  Stretch shuffled = y;
  shuffled.set_right(rounded_up(x.right.begin, stride), rounded_down(x.right.end, stride));
  y.limit_to(shuffled);
}
void limit_to_shuffled_up(Stretch& y, const Stretch& x, std::int64_t stride) {
  Stretch shuffled = y;
  // The last pixel is repeated where the level rounds down.
  const bool has_last = x.right.begin < x.full;
  shuffled.set_right(has_last ? x.right.begin * stride : y.full, x.right.end * stride);
  y.limit_to(shuffled);
}

Stretch narrowed(Stretch x, std::int64_t by) {
  x.set_right(x.right.begin + by, x.right.end - by);
  return x;
}

/// Residual blocks: two convolutions each that see one pixel to either side.
Stretch refined(const Stretch& x, std::int64_t blocks) { return narrowed(x, 2 * blocks); }

/// The detector, whose maps begin at half the picture's size.
Stretch detected(const Stretch& picture, std::size_t levels) {
  const Axis keep{3, 1, 1, 1}, halve{3, 2, 1, 1};
  Stretch x = narrowed(picture, static_cast<std::int64_t>(std::ceil(3 * DetectorImpl::kBlurSigma)));
  x.origin /= 2;
  x.own = (x.own + 1) / 2;
  x.full = (x.full + 1) / 2;
  x.set_right(rounded_up(x.right.begin, 2), rounded_down(x.right.end, 2));
  std::vector<Stretch> passed;
  for (std::size_t level = 0; level < levels; ++level) {
    if (level > 0) passed.push_back(x);
    x = *convolved(*convolved(x, level > 0 ? halve : keep), keep);  // any length passes
  }
  while (!passed.empty()) {
    x = convolved_back(x, halve, passed.back());
    x.limit_to(passed.back());
    passed.pop_back();
    x = narrowed(x, 1);
  }
  x = narrowed(x, 1);
  Stretch result = picture;
  result.set_right(2 * x.right.begin, 2 * x.right.end);
  return result;
}

}  // namespace

torch::Tensor cut(const torch::Tensor& images, const Region& part) {
  return images.slice(-2, part.rows.begin, part.rows.end)
      .slice(-1, part.columns.begin, part.columns.end);
}

std::optional<std::string> why_not_in_tiles(const ModelOptions& options) {
  if (options.latent > 0) {
    return "a dense latent sees whole pictures of " + to_string(options.size) + " only";
  }
  if (options.norm == Norm::group) {
    return "group normalisation goes by the mean of whole pictures";
  }
  return std::nullopt;
}

Tiling::Tiling(const ModelOptions& options, TiledResult result)
    : vertical_(along(options, result, &LevelSpec::vertical)),
      horizontal_(along(options, result, &LevelSpec::horizontal)) {}

Tiling::AxisOfNet Tiling::along(const ModelOptions& options, TiledResult result,
                                Axis (LevelSpec::*axis_of)() const) {
  AxisOfNet axis;
  // Grids beyond the longest side mean one window, the picture.
  for (const LevelSpec& level : options.levels) {
    axis.levels.push_back((level.*axis_of)());
    axis.refinements.push_back(level.residual_blocks);
    axis.strides = std::min(axis.strides * axis.levels.back().stride, kMaxSide);
  }
  axis.grid = axis.strides;
  axis.shuffles = options.shortcut == Shortcut::shuffle;
  axis.is_linear = options.linear == Linear::pca;
  axis.skips = options.skip == Skip::add || axis.is_linear;
  axis.result = result;
  if (result == TiledResult::latents) axis.scale = axis.grid;
  if (result == TiledResult::detection) {
    axis.detector_levels = options.detector.size();
    const std::int64_t common = std::int64_t{1} << axis.detector_levels;
    axis.grid = std::min(std::lcm(axis.grid, common), kMaxSide);
  }
  return axis;
}

Span Tiling::AxisOfNet::right(Span window, std::int64_t length) const {
  const bool at_start = window.begin == 0, at_end = window.end == length;
  Stretch x{at_start, at_end, window, window.begin, window.length(), length};
  const Stretch picture = x;
  std::vector<Stretch> inputs;
  const auto go_down = [&] {
    inputs.clear();
    for (std::size_t i = 0; i < levels.size(); ++i) {
      inputs.push_back(x);
      const auto y = convolved(x, levels[i]);
      if (!y) return false;
      x = *y;
      if (shuffles) limit_to_shuffled_down(x, inputs.back(), levels[i].stride);
      x = refined(x, refinements[i]);
    }
    return true;
  };
  if (!go_down()) return {};
  if (result == TiledResult::latents) return x.right;
  if (is_linear) {  // a block is right where its latent is, and a network restores them
    Stretch blocks = picture;
    blocks.set_right(x.right.begin * strides, x.right.end * strides);
    x = blocks;
    go_down();
  }
  for (std::size_t i = levels.size(); i-- > 0;) {
    x = refined(x, refinements[i]);
    Stretch y = convolved_back(x, levels[i], inputs[i]);
    if (shuffles) limit_to_shuffled_up(y, x, levels[i].stride);
    if (skips) y.limit_to(inputs[i]);
    x = y;
  }
  if (result == TiledResult::detection) x = detected(x, detector_levels);
  return x.right;
}

Span Tiling::AxisOfNet::window(Span part, std::int64_t length) const {
  Span window{rounded_down(std::min(part.begin * scale, length - 1), grid) * grid, length};
  const auto begins_late = [&] {
    const Span found = right(window, length);
    return found.begin > part.begin || found.end < part.end;
  };
  while (window.begin > 0 && begins_late()) window.begin -= grid;
  const std::int64_t least = std::max(window.begin + grid, part.end * scale);
  window.end = std::min(length, rounded_up(least, grid) * grid);
  while (window.end < length && !right(window, length).contains(part)) {
    window.end = std::min(length, window.end + grid);
  }
  return window;
}

Region Tiling::window(const Region& part, Size picture) const {
  return {vertical_.window(part.rows, picture.h), horizontal_.window(part.columns, picture.w)};
}

Region Tiling::place(const Region& part, const Region& window) const {
  const auto [h, w] = scale();
  const std::int64_t top = window.rows.begin / h, left = window.columns.begin / w;
  return part.within({{top, top}, {left, left}});
}

}  // namespace convae
