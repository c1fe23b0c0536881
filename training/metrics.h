#pragma once

#include <torch/types.h>

#include <cstdint>

namespace convae {

/// Mean squared error of each image. Both (N, C, H, W) in [0,1] → (N) double, on the CPU.
torch::Tensor image_mse(const torch::Tensor& reconstruction, const torch::Tensor& target);

/// Peak signal-to-noise ratio in dB for values in [0,1]: -10 log10(mse), at most 100.
double psnr(double mse);

/// Structural similarity of each image (Wang, Bovik, Sheikh & Simoncelli 2004,
/// https://doi.org/10.1109/TIP.2003.819861): 11×11 Gaussian window with σ 1.5, population
/// covariance, K1 0.01, K2 0.03, L 1, mean over the area where the window fits and over channels.
/// Both (N, C, H, W) in [0,1] → (N) double on the CPU, NaN where a side is below 11.
torch::Tensor image_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target);

/// A mean in which every image counts the same; images without a value (NaN) do not count.
class ImageMean {
public:
  void add(double value);
  void add(const torch::Tensor& values);  ///< (N)
  std::int64_t count() const { return count_; }
  double mean() const;  ///< NaN without values

private:
  double sum_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace convae
