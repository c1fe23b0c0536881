#include "convae/metrics/similarity.h"

#include "convae/models/kernels/kernels.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

namespace convae {
namespace {

using kernels::kSsimC1, kernels::kSsimC2;
static_assert(kSimilarityWindow == kernels::kSsimWindow);

constexpr double kSigma = 1.5;
const std::vector<std::int64_t> kOnes = {1, 1}, kZeros = {0, 0};  // stride and dilation, padding

/// Powers of the scales, finest first (Wang, Simoncelli & Bovik 2003, section 3.2).
constexpr std::array kScalePowers = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};

/// Both passes of the separable Gaussian over every channel by itself, where the window fits.
/// x: (N, C, H, W), channels-last.
torch::Tensor blur(const torch::Tensor& x) {
  const torch::Tensor window = similarity_window().to(x.options(), /*non_blocking=*/true);
  const std::int64_t c = x.size(1);
  const auto pass = [&](const torch::Tensor& image, std::int64_t h, std::int64_t w) {
    return at::conv2d(image, window.view({1, 1, h, w}).expand({c, 1, h, w}), /*bias=*/{}, kOnes,
                      kZeros, kOnes, /*groups=*/c);
  };
  return pass(pass(x, kSimilarityWindow, 1), 1, kSimilarityWindow);
}

/// Means of each channel over the area where the window fits, (N, C).
struct Similarity {
  torch::Tensor all;        ///< luminance · contrast · structure
  torch::Tensor structure;  ///< contrast · structure
};

Similarity similarity(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  const std::int64_t c = target.size(1);
  // Variances do not depend on the zero point; around 0.5 fewer digits cancel in E[x²] - E[x]².
  const torch::Tensor x = reconstruction - 0.5;
  const torch::Tensor y = target - 0.5;
  // One grouped convolution over all five maps uses a CPU's vector units; five of a few channels do
  // not. On a GPU the other layout is computed without cuDNN, which may round factors (TF32).
  const auto layout = x.is_cuda() ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
  const torch::Tensor maps =
      blur(at::cat({x, y, x * x, y * y, x * y}, /*dim=*/1).contiguous(layout));
  const torch::Tensor mean_x = maps.narrow(1, 0, c), mean_y = maps.narrow(1, c, c);
  const torch::Tensor var_x = maps.narrow(1, 2 * c, c) - mean_x.square();
  const torch::Tensor var_y = maps.narrow(1, 3 * c, c) - mean_y.square();
  const torch::Tensor cov = maps.narrow(1, 4 * c, c) - mean_x * mean_y;
  const torch::Tensor lum_x = mean_x + 0.5, lum_y = mean_y + 0.5;
  const torch::Tensor structure = (2 * cov + kSsimC2) / (var_x + var_y + kSsimC2);
  const torch::Tensor luminance =
      (2 * lum_x * lum_y + kSsimC1) / (lum_x.square() + lum_y.square() + kSsimC1);
  return {(luminance * structure).mean({2, 3}), structure.mean({2, 3})};
}

/// base^power, and 0 with gradient 0 where the base is not positive. NaN stays NaN.
torch::Tensor positive_power(const torch::Tensor& base, double power) {
  constexpr double kTiny = 1e-12;  // below it the gradient's factor overflows
  return at::where(base <= kTiny, at::zeros_like(base), base.clamp_min(kTiny).pow(power));
}

/// Half the size, by means of 2×2; an odd side gets a row of zeros before and behind, as the
/// reference implementations in Python have it.
torch::Tensor halve(const torch::Tensor& x) {
  return at::avg_pool2d(x, /*kernel_size=*/2, /*stride=*/2, {x.size(2) % 2, x.size(3) % 2});
}

}  // namespace

torch::Tensor similarity_window() {
  const torch::Tensor at = at::arange(kSimilarityWindow, at::kDouble) - kSimilarityWindow / 2;
  const torch::Tensor weights = at::exp(-at.square() / (2 * kSigma * kSigma));
  return weights / weights.sum();
}

torch::Tensor ssim(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  return similarity(reconstruction, target).all.mean(1);
}

std::int64_t ms_ssim_scales(std::int64_t shorter_side) {
  std::int64_t scales = 0;
  for (; scales < std::ssize(kScalePowers) && shorter_side >= kSimilarityWindow; ++scales) {
    shorter_side = (shorter_side + 1) / 2;
  }
  return scales;
}

torch::Tensor ms_ssim(const torch::Tensor& reconstruction, const torch::Tensor& target) {
  const std::int64_t scales = ms_ssim_scales(std::min(target.size(2), target.size(3)));
  TORCH_CHECK(scales > 0, "ms_ssim takes sides of at least ", kSimilarityWindow);
  const double power_sum =
      std::accumulate(kScalePowers.begin(), kScalePowers.begin() + scales, 0.0) /
      std::accumulate(kScalePowers.begin(), kScalePowers.end(), 0.0);
  torch::Tensor x = reconstruction;
  torch::Tensor y = target;
  torch::Tensor product;
  for (std::int64_t scale = 0; scale < scales; ++scale) {
    const bool is_last = scale + 1 == scales;
    const Similarity values = similarity(x, y);
    const torch::Tensor factor =
        positive_power(is_last ? values.all : values.structure, kScalePowers[scale] / power_sum);
    product = scale == 0 ? factor : product * factor;
    if (is_last) break;
    x = halve(x);
    y = halve(y);
  }
  return product.mean(1);
}

}  // namespace convae
