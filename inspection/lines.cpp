#include "convae/inspection/lines.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace convae {
namespace {

constexpr int kDirections = 12;
constexpr std::array kSteps = {1.5, 3.0, 6.0};  // pixels: each doubles how many a line has

cv::Point rounded(double x, double y) {
  return {static_cast<int>(std::lround(x)), static_cast<int>(std::lround(y))};
}

LineDirection direction_of(double angle) {
  const double x = std::cos(angle), y = std::sin(angle);
  LineDirection line;
  line.beside = rounded(-kBesideReach * y, kBesideReach * x);
  std::size_t count = 1;
  for (const double step : kSteps) {
    const cv::Point to = rounded(step * x, step * y);
    for (std::size_t i = 0; i < count; ++i) {
      line.along[count + i] = line.along[i] + to;
      line.along[i] -= to;
    }
    count *= 2;
  }
  return line;
}

/// Means along a line through each pixel of `means`, which begins so far within `wide`.
void mean_along(const cv::Mat& wide, const std::array<cv::Point, 8>& along, cv::Mat& means) {
  constexpr float kShare = 1.0F / 8;
  for (int y = 0; y < means.rows; ++y) {
    std::array<const float*, 8> from;
    for (std::size_t i = 0; i < from.size(); ++i) {
      from[i] = wide.ptr<float>(y + kLineReach + along[i].y) + kLineReach + along[i].x;
    }
    auto* to = means.ptr<float>(y);
    for (int x = 0; x < means.cols; ++x) {
      to[x] = kShare * (((from[0][x] + from[1][x]) + (from[2][x] + from[3][x])) +
                        ((from[4][x] + from[5][x]) + (from[6][x] + from[7][x])));
    }
  }
}

void keep_most(const cv::Mat& means, cv::Point beside, cv::Mat& most) {
  for (int y = 0; y < most.rows; ++y) {
    const auto row = [&](cv::Point offset) {
      return means.ptr<float>(y + kBesideReach + offset.y) + kBesideReach + offset.x;
    };
    const float *here = row({}), *left = row(beside), *right = row(-beside);
    auto* to = most.ptr<float>(y);
    for (int x = 0; x < most.cols; ++x) {
      const float lighter = here[x] - std::max(left[x], right[x]);
      const float darker = std::min(left[x], right[x]) - here[x];
      to[x] = std::max(to[x], std::max(lighter, darker));
    }
  }
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
  cv::Mat means(plane.rows + 2 * kBesideReach, plane.cols + 2 * kBesideReach, CV_32F);
  cv::Mat most(plane.size(), CV_32F, cv::Scalar(0));
  for (const LineDirection& line : line_directions()) {
    mean_along(wide, line.along, means);
    keep_most(means, line.beside, most);
  }
  return most;
}

}  // namespace convae
