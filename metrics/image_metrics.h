#pragma once

#include "convae/core/tensor.h"

#include <cstdint>

namespace convae {

/// Mean squared error of each image. Both (N, C, H, W) in [0,1] → (N) double, on the CPU.
torch::Tensor image_mse(const torch::Tensor& reconstruction, const torch::Tensor& target);

/// Peak signal-to-noise ratio in dB for values in [0,1]: -10 log10(mse), at most 100.
double psnr(double mse);

/// ssim() and ms_ssim() of each image (metrics/similarity.h) as measures: not
/// differentiable. Both (N, C, H, W) in [0,1] → (N) double on the CPU, NaN where a side is below
/// kSimilarityWindow.
torch::Tensor image_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target);
torch::Tensor image_ms_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target);

/// A mean over images, or weighted over parts of one; those without a value (NaN) do not count.
class ImageMean {
public:
  void add(double value, std::int64_t weight = 1);
  double mean() const;  ///< NaN without values

private:
  double sum_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace convae
