#include "convae/metrics/image_metrics.h"

#include "convae/core/parallel.h"
#include "convae/metrics/similarity.h"
#include "convae/models/kernels/flat_maps.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace convae {
namespace {

constexpr std::int64_t kWindow = kSimilarityWindow;
constexpr double kMaxPsnr = 100;

/// SSIM of floats on a CPU, in one pass that keeps no maps.
torch::Tensor ssim_in_one_pass(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  constexpr std::int64_t kRowsAPiece = 16;
  const torch::Tensor x = reconstruction.contiguous(at::MemoryFormat::ChannelsLast);
  const torch::Tensor y = target.contiguous(at::MemoryFormat::ChannelsLast);
  const std::int64_t n = y.size(0), c = y.size(1), h = y.size(2), w = y.size(3);
  const std::int64_t windows_h = h - kWindow + 1, windows_w = w - kWindow + 1;
  const std::int64_t pieces = (windows_h + kRowsAPiece - 1) / kRowsAPiece;
  const torch::Tensor weights = similarity_window().to(at::kFloat);
  const torch::Tensor scratch = at::empty({n * pieces, 4 * w * c});
  const torch::Tensor sums = at::zeros({n, pieces}, at::kDouble);
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

bool has_similarity(const torch::Tensor& images) {
  return images.size(2) >= kWindow && images.size(3) >= kWindow;
}

torch::Tensor no_values(const torch::Tensor& images) {
  return at::full({images.size(0)}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
}

}  // namespace

torch::Tensor image_mse(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  return (reconstruction - target).square().mean({1, 2, 3}, /*keepdim=*/false, at::kDouble).cpu();
}

double psnr(double mse) {
  if (std::isnan(mse)) return mse;
  return mse > 0 ? std::min(kMaxPsnr, -10 * std::log10(mse)) : kMaxPsnr;
}

torch::Tensor image_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  if (!has_similarity(target)) return no_values(target);
  const auto fits_kernel = [](const torch::Tensor& images) {
    return images.device().is_cpu() && images.scalar_type() == at::kFloat;
  };
  return fits_kernel(reconstruction) && fits_kernel(target)
             ? ssim_in_one_pass(reconstruction, target)
             : ssim(reconstruction, target).to(at::kCPU, at::kDouble);
}

torch::Tensor image_ms_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  if (!has_similarity(target)) return no_values(target);
  return ms_ssim(reconstruction, target).to(at::kCPU, at::kDouble);
}

void ImageMean::add(double value, std::int64_t weight) {
  if (std::isnan(value)) return;
  sum_ += value * static_cast<double>(weight);
  count_ += weight;
}

double ImageMean::mean() const {
  return count_ > 0 ? sum_ / static_cast<double>(count_) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace convae
