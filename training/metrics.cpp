#include "training/metrics.h"

#include "models/flat_maps.h"
#include "models/parallel.h"

#include <ATen/ops/conv2d.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace convae {
namespace {

using kernels::kSsimC1, kernels::kSsimC2;

constexpr std::int64_t kWindow = kernels::kSsimWindow;
constexpr double kSigma = 1.5;
constexpr double kMaxPsnr = 100;
const std::vector<std::int64_t> kOnes = {1, 1}, kZeros = {0, 0};  // stride and dilation, padding

/// (11) double.
torch::Tensor gaussian() {
  const torch::Tensor at = torch::arange(kWindow, torch::kDouble) - kWindow / 2;
  const torch::Tensor weights = torch::exp(-at.square() / (2 * kSigma * kSigma));
  return weights / weights.sum();
}

/// Both passes of the separable Gaussian over every channel by itself, where the window fits.
/// x: (N, C, H, W), channels-last.
torch::Tensor blur(const torch::Tensor& x) {
  const torch::Tensor window = gaussian().to(x.options());
  const std::int64_t c = x.size(1);
  const auto pass = [&](const torch::Tensor& image, std::int64_t h, std::int64_t w) {
    return torch::conv2d(image, window.view({1, 1, h, w}).expand({c, 1, h, w}), /*bias=*/{}, kOnes,
                         kZeros, kOnes, /*groups=*/c);
  };
  return pass(pass(x, kWindow, 1), 1, kWindow);
}

/// In LibTorch's operations, for every device and type.
torch::Tensor ssim_by_operations(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  const std::int64_t c = target.size(1);
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
  const torch::Tensor ssim =
      ((2 * lum_x * lum_y + kSsimC1) * (2 * cov + kSsimC2)) /
      ((lum_x.square() + lum_y.square() + kSsimC1) * (var_x + var_y + kSsimC2));
  return ssim.flatten(1).mean(1, /*keepdim=*/false, torch::kDouble).cpu();
}

/// The same of floats on a CPU, in one pass that keeps no maps.
torch::Tensor ssim_in_one_pass(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  constexpr std::int64_t kRowsAPiece = 16;
  const torch::Tensor x = reconstruction.contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor y = target.contiguous(torch::MemoryFormat::ChannelsLast);
  const std::int64_t n = y.size(0), c = y.size(1), h = y.size(2), w = y.size(3);
  const std::int64_t windows_h = h - kWindow + 1, windows_w = w - kWindow + 1;
  const std::int64_t pieces = (windows_h + kRowsAPiece - 1) / kRowsAPiece;
  const torch::Tensor weights = gaussian().to(torch::kFloat);
  const torch::Tensor scratch = torch::empty({n * pieces, 4 * w * c});
  const torch::Tensor sums = torch::zeros({n, pieces}, torch::kDouble);
  const auto& ssim_row = kernels_of_this_processor().ssim_row;
  parallel_for_each(n * pieces, [&](std::int64_t i) {
    const std::int64_t first = i % pieces * kRowsAPiece;
    const std::int64_t last = std::min(first + kRowsAPiece, windows_h);
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t begin = (i / pieces * h + row) * w * c;
      values<double>(sums)[i] +=
          ssim_row(values<float>(x) + begin, values<float>(y) + begin, w * c, c,
                   values<float>(weights), values<float>(scratch) + i * 4 * w * c);
    }
  });
  return sums.sum(1) / static_cast<double>(windows_h * windows_w * c);
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
  const std::int64_t n = target.size(0), h = target.size(2), w = target.size(3);
  if (h < kWindow || w < kWindow) {
    return torch::full({n}, std::numeric_limits<double>::quiet_NaN(), torch::kDouble);
  }
  const auto fits_kernel = [](const torch::Tensor& images) {
    return images.device().is_cpu() && images.scalar_type() == torch::kFloat;
  };
  return fits_kernel(reconstruction) && fits_kernel(target)
             ? ssim_in_one_pass(reconstruction, target)
             : ssim_by_operations(reconstruction, target);
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
