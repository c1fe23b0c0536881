#pragma once

#include "convae/training/defects.h"

namespace convae {

/// Pictures that must never pass, whatever is on them.
enum class FrameFault {
  blurred,        ///< out of focus
  uniform,        ///< one colour, with hardly any grain
  over_exposed,   ///< large parts white
  under_exposed,  ///< nearly black
  covered,        ///< a third to two thirds hidden
  noise,          ///< nothing but noise
  turned,         ///< by 15° or more
};
inline constexpr int kFrameFaults = 7;

/// Kinds of faults that images can be told by: 1 … kFaultKinds, the drawn defects first.
inline constexpr int kFaultKinds = static_cast<int>(names(DefectKind{}).size()) + kFrameFaults;

/// Whether a kind is a defect somewhere in a picture, and not a fault of all of it.
constexpr bool is_defect(int kind) { return kind > 0 && kind <= kFaultKinds - kFrameFaults; }

/// Draws a fault on a picture, (H, W) of 1 or 3 floats in [0,1]; `label`: of a defect, see
/// draw_defect().
void draw_fault(cv::Mat& picture, int kind, CounterRandom& random, const GoodPictures& others,
                cv::Mat* label = nullptr);

}  // namespace convae
