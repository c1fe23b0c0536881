#pragma once

#include "convae/core/api.h"
#include "convae/core/size.h"

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

namespace CONVAE_API convae {

/// The linear code of images of one size with the smallest squared error: their principal
/// components. Buffers, which an optimizer leaves alone: its steps would be larger than most of
/// their numbers. Zeros until set() is called.
///
/// Buffers: `mean` (C, H, W); `components` (D, C, H, W), largest variance first. They are
/// orthogonal and of one length in an encoder, and of its inverse in the decoder.
class LinearCodeImpl : public torch::nn::Module {
public:
  LinearCodeImpl(std::int64_t numbers, std::int64_t channels, Size size);

  /// Images (N, C, H, W) → (N, D): coordinates along the components, from the mean image.
  torch::Tensor encode(const torch::Tensor& images) const;

  /// (N, D) → (N, C, H, W) float, channels-last.
  torch::Tensor decode(const torch::Tensor& latents) const;

  /// `components` may be fewer than D; the rest stays zero.
  void set(const torch::Tensor& mean, const torch::Tensor& components);

private:
  torch::Tensor mean_, components_;
};
TORCH_MODULE(LinearCode);

}  // namespace convae
