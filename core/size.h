#pragma once

#include "convae/core/api.h"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CONVAE_API convae {

/// A number for each axis of an image, height first: a size in pixels, a kernel, a stride, a
/// padding. In options, {0, 0} means "not given".
struct Size {
  std::int64_t h = 0;
  std::int64_t w = 0;

  std::int64_t area() const { return h * w; }
  /// False for {0, 0}.
  explicit operator bool() const { return h != 0 || w != 0; }
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes the comparison's own 0 for one
  friend auto operator<=>(const Size&, const Size&) = default;
};

/// {h, w}, as LibTorch and ONNX take it.
std::vector<std::int64_t> per_axis(Size value);

/// "24x25".
std::string to_string(Size size);

/// Reads "3" (both axes) or "3x5" (height x width); nullopt for other text.
std::optional<Size> parse_size(std::string_view text);

/// The same, taken off the front of `text`; likewise a single number of at least 0.
std::optional<Size> take_size(std::string_view& text);
std::optional<std::int64_t> take_count(std::string_view& text);

/// Longest side that an image can have (2^30).
inline constexpr std::int64_t kMaxSide = std::int64_t{1} << 30;

}  // namespace convae
