#pragma once

#include <opencv2/core.hpp>

#include <array>
#include <vector>

namespace convae {

/// A straight line through a pixel. It holds the eight pixels ±steps[0] ±steps[1] ±steps[2].
struct LineDirection {
  std::array<cv::Point, 3> steps;
  cv::Point beside;  ///< from it to a parallel line; another one lies as far behind
};

/// How far each of the steps leads at most, to every side, and how far the lines beside lie.
inline constexpr std::array kStepReach = {2, 3, 6};
inline constexpr int kLineReach = kStepReach[0] + kStepReach[1] + kStepReach[2], kBesideReach = 3;

/// Twelve of them, 15 degrees apart. Lines are some 23 pixels long.
const std::vector<LineDirection>& line_directions();

/// How much a thin straight line through each pixel is lighter or darker than both lines beside
/// it, in the direction where it is most: a scratch or a hair is faint at each of its pixels, among
/// pebbles or blades of grass, and plain in a mean along it. Beyond an edge lies what is at it.
/// plane: float; the result is non-negative.
cv::Mat line_map(const cv::Mat& plane);

}  // namespace convae
