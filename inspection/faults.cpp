#include "convae/inspection/faults.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace convae {
namespace {

cv::Scalar some_grey(CounterRandom& random) {
  const std::uint64_t choice = random.below(4);
  return cv::Scalar::all(choice == 0 ? 0 : choice == 1 ? 1 : random.uniform());
}

/// About its middle; each half about its own where the picture is longer than OpenCV can turn.
void turn(cv::Mat picture, double angle) {
  constexpr int kMost = std::numeric_limits<short>::max() - 1;
  if (std::max(picture.cols, picture.rows) > kMost) {
    const auto part = [&](int from, int to) {
      const bool is_wide = picture.cols > picture.rows;
      return is_wide ? picture.colRange(from, to) : picture.rowRange(from, to);
    };
    const int side = std::max(picture.cols, picture.rows);
    turn(part(0, side / 2), angle);
    return turn(part(side / 2, side), angle);
  }
  const cv::Point2f middle(static_cast<float>(picture.cols) / 2,
                           static_cast<float>(picture.rows) / 2);
  cv::warpAffine(picture.clone(), picture, cv::getRotationMatrix2D(middle, angle, 1),
                 picture.size(), cv::INTER_LINEAR, cv::BORDER_REPLICATE);
}

/// From one side, by a straight edge.
void cover(cv::Mat& picture, CounterRandom& random) {
  const bool across = random.below(2) == 0, from_end = random.below(2) == 0;
  const int side = across ? picture.cols : picture.rows;
  const int length = std::max(1, static_cast<int>(side * random.uniform(0.3, 0.7)));
  const int first = from_end ? side - length : 0;
  cv::Mat hidden =
      across ? picture.colRange(first, first + length) : picture.rowRange(first, first + length);
  hidden.setTo(some_grey(random));
}

void draw_frame_fault(cv::Mat& picture, FrameFault fault, CounterRandom& random) {
  const double side = std::min(picture.rows, picture.cols);
  switch (fault) {
    case FrameFault::blurred: {
      // From what is just seen to what leaves shapes alone.
      const double sigma = 1.2 * std::pow(std::max(side / 16, 2.0) / 1.2, random.uniform());
      cv::GaussianBlur(picture, picture, {}, sigma, sigma, cv::BORDER_REPLICATE);
      if (random.below(2) == 0) add_noise(picture, random.uniform(0.002, 0.02), random);
      break;
    }
    case FrameFault::uniform:
      picture.setTo(random.below(2) == 0 ? cv::mean(picture) : some_grey(random));
      if (random.below(2) == 0) add_noise(picture, random.uniform(0.001, 0.02), random);
      break;
    case FrameFault::over_exposed: {
      // Of a picture that is bright already, too, so much that parts turn white.
      const double mean = cv::mean(picture.reshape(1))[0];
      picture *= std::max(1.5, random.uniform(0.9, 2) / std::max(mean, 0.15));
      break;
    }
    case FrameFault::under_exposed: picture *= random.uniform(0.02, 0.3); break;
    case FrameFault::covered: cover(picture, random); break;
    case FrameFault::noise:
      picture.setTo(cv::Scalar::all(random.uniform(0.2, 0.8)));
      add_noise(picture, random.uniform(0.05, 0.4), random);
      break;
    case FrameFault::turned: {
      const double angle = random.uniform(15, 90);
      turn(picture, random.below(2) == 0 ? angle : -angle);
      break;
    }
  }
  cv::min(cv::max(picture, 0.0), 1.0, picture);
}

}  // namespace

void draw_fault(cv::Mat& picture, int kind, CounterRandom& random, const GoodPictures& others,
                cv::Mat* label) {
  if (is_defect(kind)) {
    return draw_defect(picture, static_cast<DefectKind>(kind - 1), random, others, label);
  }
  const int frame = kind - 1 - (kFaultKinds - kFrameFaults);
  draw_frame_fault(picture, static_cast<FrameFault>(frame), random);
}

}  // namespace convae
