#pragma once

#include "convae/core/api.h"
#include "convae/core/size.h"

#include <string>

namespace CONVAE_API convae {

/// How well one image came back.
struct ImageQuality {
  std::string name;  ///< as in other tables: relative to the data folder
  Size size;         ///< as the network saw it
  double mse = 0;    ///< on [0,1]
  double psnr = 0;   ///< dB
  double ssim = 0;   ///< NaN where a side is below its window
};

}  // namespace convae
