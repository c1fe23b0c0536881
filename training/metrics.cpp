#include "training/metrics.h"

#include <ATen/ops/conv2d.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace convae {
namespace {

constexpr std::int64_t kWindow = 11;
constexpr double kSigma = 1.5;
constexpr double kMaxPsnr = 100;
const std::vector<std::int64_t> kOnes = {1, 1}, kZeros = {0, 0};  // stride and dilation, padding

/// Both passes of the separable Gaussian over every channel by itself, where the window fits.
/// x: (N, C, H, W), channels-last.
torch::Tensor blur(const torch::Tensor& x) {
  torch::Tensor window = torch::arange(kWindow, torch::kDouble) - kWindow / 2;
  window = torch::exp(-window.square() / (2 * kSigma * kSigma));
  window = (window / window.sum()).to(x.options());
  const std::int64_t c = x.size(1);
  const auto pass = [&](const torch::Tensor& image, std::int64_t h, std::int64_t w) {
    return torch::conv2d(image, window.view({1, 1, h, w}).expand({c, 1, h, w}), /*bias=*/{}, kOnes,
                         kZeros, kOnes, /*groups=*/c);
  };
  return pass(pass(x, kWindow, 1), 1, kWindow);
}

}  // namespace

torch::Tensor image_mse(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  return (reconstruction - target)
      .square()
      .mean({1, 2, 3}, /*keepdim=*/false, torch::kDouble)
      .cpu();
}

double psnr(double mse) {
  if (std::isnan(mse)) return mse;
  return mse > 0 ? std::min(kMaxPsnr, -10 * std::log10(mse)) : kMaxPsnr;
}

torch::Tensor image_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  const std::int64_t n = target.size(0), c = target.size(1), h = target.size(2), w = target.size(3);
  if (h < kWindow || w < kWindow) {
    return torch::full({n}, std::numeric_limits<double>::quiet_NaN(), torch::kDouble);
  }
  constexpr double kC1 = 0.01 * 0.01;
  constexpr double kC2 = 0.03 * 0.03;
  // Variances do not depend on the zero point; around 0.5 fewer digits cancel in E[x²] - E[x]².
  const torch::Tensor x = reconstruction - 0.5;
  const torch::Tensor y = target - 0.5;
  // One grouped convolution over all five maps uses the vector units; five of a few channels do
  // not.
  const torch::Tensor maps = blur(torch::cat({x, y, x * x, y * y, x * y}, /*dim=*/1)
                                      .contiguous(torch::MemoryFormat::ChannelsLast));
  const torch::Tensor mean_x = maps.narrow(1, 0, c), mean_y = maps.narrow(1, c, c);
  const torch::Tensor var_x = maps.narrow(1, 2 * c, c) - mean_x.square();
  const torch::Tensor var_y = maps.narrow(1, 3 * c, c) - mean_y.square();
  const torch::Tensor cov = maps.narrow(1, 4 * c, c) - mean_x * mean_y;
  const torch::Tensor lum_x = mean_x + 0.5, lum_y = mean_y + 0.5;
  const torch::Tensor ssim = ((2 * lum_x * lum_y + kC1) * (2 * cov + kC2)) /
                             ((lum_x.square() + lum_y.square() + kC1) * (var_x + var_y + kC2));
  return ssim.flatten(1).mean(1, /*keepdim=*/false, torch::kDouble).cpu();
}

void ImageMean::add(double value) {
  if (std::isnan(value)) return;
  sum_ += value;
  ++count_;
}

void ImageMean::add(const torch::Tensor& values) {
  const torch::Tensor on_cpu = values.to(torch::kCPU, torch::kDouble).contiguous();
  for (std::int64_t i = 0; i < on_cpu.numel(); ++i) add(on_cpu.const_data_ptr<double>()[i]);
}

double ImageMean::mean() const {
  return count_ > 0 ? sum_ / static_cast<double>(count_) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace convae
