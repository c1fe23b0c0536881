#pragma once

#include <opencv2/core.hpp>

#include <array>
#include <vector>

namespace convae {

/// A straight line through a pixel, as offsets of pixels.
struct LineDirection {
  std::array<cv::Point, 8> along;  ///< of the pixels on it
  cv::Point beside;                ///< of a parallel line; another one lies as far behind
};

inline constexpr int kLineReach = 11;   ///< how far a line goes to every side
inline constexpr int kBesideReach = 3;  ///< how far from it its neighbours lie

/// Twelve of them, 15 degrees apart. Lines are some 23 pixels long.
const std::vector<LineDirection>& line_directions();

/// How much a thin straight line through each pixel is lighter or darker than both lines beside
/// it, in the direction where it is most: a scratch or a hair is faint at each of its pixels, among
/// pebbles or blades of grass, and plain in a mean along it. Beyond an edge lies what is at it.
/// plane: float; the result is non-negative.
cv::Mat line_map(const cv::Mat& plane);

}  // namespace convae
