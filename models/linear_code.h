#pragma once

#include "convae/core/api.h"
#include "convae/core/size.h"
#include "convae/models/options.h"

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace CONVAE_API convae {

/// The linear code of images, or of their blocks, with the smallest squared error: their principal
/// components. A dense latent codes the whole image as one block. Where the latent is a map, each
/// of its places codes one block, see ModelOptions::linear_block(); the last blocks may reach
/// beyond the image, whose edge is repeated there.
///
/// Buffers, which an optimizer leaves alone (its steps would be larger than most of their numbers),
/// zero until set() is called: `components` (D, C, block.h, block.w), largest variance first,
/// orthogonal and of one length in an encoder, and of its inverse in the decoder; `mean`, the mean
/// image (C, H, W) of a dense latent, else the mean colour (C, 1, 1).
class LinearCodeImpl : public torch::nn::Module {
public:
  explicit LinearCodeImpl(const ModelOptions& options);

  /// Images (N, C, H, W) → coordinates along the components, from the mean: (N, D, h, w), or (N, D)
  /// of a dense latent.
  torch::Tensor encode(const torch::Tensor& images) const;

  /// The way back, to images of that size: (N, C, H, W) float, channels-last.
  torch::Tensor decode(const torch::Tensor& latents, Size size) const;

  /// `components` may be fewer than D; the rest stays zero.
  void set(const torch::Tensor& mean, const torch::Tensor& components);

private:
  bool is_dense_;
  torch::Tensor mean_, components_;
};
TORCH_MODULE(LinearCode);

/// (N, C, H, W) → (N, h, w, C · block.h · block.w), a row of numbers for each block; the last ones
/// are completed by repeating the last row and column.
torch::Tensor rows_of_blocks(const torch::Tensor& images, Size block);

}  // namespace convae
