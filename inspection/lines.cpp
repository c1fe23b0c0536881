#include "convae/inspection/lines.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace convae {
namespace {

constexpr int kDirections = 12;
constexpr std::array kStepLengths = {1.5, 3.0, 6.0};  // each doubles how many pixels a line has
constexpr int kRowsAtOnce = 32;                       // what is in work stays in the cache

cv::Point rounded(double x, double y) {
  return {static_cast<int>(std::lround(x)), static_cast<int>(std::lround(y))};
}

LineDirection direction_of(double angle) {
  const double x = std::cos(angle), y = std::sin(angle);
  LineDirection line;
  line.beside = rounded(-kBesideReach * y, kBesideReach * x);
  for (std::size_t i = 0; i < line.steps.size(); ++i) {
    line.steps[i] = rounded(kStepLengths[i] * x, kStepLengths[i] * y);
  }
  return line;
}

/// What lies so far from each pixel of a plane, but for those at its `border`.
cv::Mat moved(const cv::Mat& plane, int border, cv::Point by) {
  return plane({border + by.x, border + by.y, plane.cols - 2 * border, plane.rows - 2 * border});
}

/// Raises `most`, whose pixels begin kLineReach + kBesideReach within `wide`, to eight times what
/// lines of one direction differ by.
void raise(cv::Mat most, const cv::Mat& wide, const LineDirection& line) {
  cv::Mat sums = wide;
  for (std::size_t i = 0; i < line.steps.size(); ++i) {
    cv::Mat doubled;
    cv::add(moved(sums, kStepReach[i], line.steps[i]), moved(sums, kStepReach[i], -line.steps[i]),
            doubled);
    sums = doubled;
  }
  const cv::Mat here = moved(sums, kBesideReach, {});
  const cv::Mat left = moved(sums, kBesideReach, line.beside);
  const cv::Mat right = moved(sums, kBesideReach, -line.beside);
  cv::Mat difference;
  cv::max(left, right, difference);
  cv::subtract(here, difference, difference);
  cv::max(most, difference, most);
  cv::min(left, right, difference);
  cv::subtract(difference, here, difference);
  cv::max(most, difference, most);
}

}  // namespace

const std::vector<LineDirection>& line_directions() {
  static const std::vector<LineDirection> all = [] {
    std::vector<LineDirection> made;
    for (int i = 0; i < kDirections; ++i) {
      made.push_back(direction_of(std::numbers::pi * i / kDirections));
    }
    return made;
  }();
  return all;
}

cv::Mat line_map(const cv::Mat& plane) {
  constexpr int kReach = kLineReach + kBesideReach;
  cv::Mat wide;
  cv::copyMakeBorder(plane, wide, kReach, kReach, kReach, kReach, cv::BORDER_REPLICATE);
  cv::Mat most(plane.size(), CV_32F, cv::Scalar(0));
  for (int y = 0; y < plane.rows; y += kRowsAtOnce) {
    const int end = std::min(y + kRowsAtOnce, plane.rows);
    for (const LineDirection& line : line_directions()) {
      raise(most.rowRange(y, end), wide.rowRange(y, end + 2 * kReach), line);
    }
  }
  return most / 8;
}

}  // namespace convae
