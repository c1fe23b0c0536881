#include "convae/evaluation/latent_rounding.h"

namespace convae {

void LatentRounding::see(const torch::Tensor& latents) {
  std::vector<std::int64_t> others = {0};  // all axes but the channels'
  if (latents.dim() == 4) others = {0, 2, 3};
  const torch::Tensor low = latents.amin(others, /*keepdim=*/true);
  const torch::Tensor high = latents.amax(others, /*keepdim=*/true);
  low_ = low_.defined() ? torch::minimum(low_, low) : low;
  high_ = high_.defined() ? torch::maximum(high_, high) : high;
}

torch::Tensor LatentRounding::round(const torch::Tensor& latents) const {
  constexpr double kLargestCode = 255;
  // A channel that never varies has one value; any step but zero gives it back.
  const torch::Tensor step =
      torch::where(high_ > low_, (high_ - low_) / kLargestCode, torch::ones_like(low_));
  const torch::Tensor codes = ((torch::clamp(latents, low_, high_) - low_) / step).round();
  return low_ + codes * step;
}

}  // namespace convae
