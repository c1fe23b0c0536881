#pragma once

#include <torch/types.h>

namespace convae {

/// Latents as 8-bit codes: each channel of a map, or each number of a dense latent, has 256 evenly
/// spaced values over the range it was seen in.
class LatentRounding {
public:
  /// Widens the ranges to hold these latents: (N, c, h, w) or (N, D) float.
  void see(const torch::Tensor& latents);

  /// What the codes stand for: each number's nearest value, those outside their range at its end.
  /// Needs latents to have been seen.
  torch::Tensor round(const torch::Tensor& latents) const;

private:
  torch::Tensor low_, high_;  // (1, c, 1, 1) or (1, D)
};

}  // namespace convae
