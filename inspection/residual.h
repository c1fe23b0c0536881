#pragma once

#include <torch/types.h>

namespace convae {

/// What is left of one image in one view of it, such as the image minus its reconstruction.
struct Residual {
  torch::Tensor values;   ///< (C, H, W) float on the CPU, signed
  double brightness = 0;  ///< mean of the image, in [0,1]
};

}  // namespace convae
