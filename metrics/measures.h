#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"
#include "convae/core/tensor.h"
#include "convae/metrics/bootstrap.h"

#include <array>
#include <tuple>
#include <vector>

namespace CONVAE_API convae {

/// Measures of a reconstruction, on values in [0,1].
enum class Measure { mse, psnr, ssim, ms_ssim };
constexpr auto names(Measure) {
  return std::to_array<Name<Measure>>({{Measure::mse, "mse"},
                                       {Measure::psnr, "psnr"},
                                       {Measure::ssim, "ssim"},
                                       {Measure::ms_ssim, "ms_ssim"}});
}
inline constexpr std::array kMeasures = {Measure::mse, Measure::psnr, Measure::ssim,
                                         Measure::ms_ssim};

/// A mean over images with its bootstrap interval; NaN where no image has a value.
struct MeanInterval {
  double mean = std::numeric_limits<double>::quiet_NaN();
  Interval interval;
};

/// Each image's measures, in the order they were added; NaN where it has none.
class ImageMeasures {
public:
  /// Both (N, C, H, W) float in [0,1].
  void add(const torch::Tensor& reconstructions, const torch::Tensor& targets);

  /// Adds all that was added to another.
  ImageMeasures& operator+=(const ImageMeasures& other);

  const std::vector<double>& values(Measure measure) const;
  MeanInterval mean(Measure measure) const;

  /// For sending to another process, see training/packing.h.
  template <typename Self>
  static auto parts(Self& self) {
    return std::tie(self.values_);
  }

private:
  std::array<std::vector<double>, kMeasures.size()> values_;
};

/// Mean of a - b over images, with its interval: images are drawn with both values, so that those
/// which are hard for both do not widen it.
MeanInterval mean_difference(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace convae
