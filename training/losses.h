#pragma once

#include "models/fused.h"
#include "training/options.h"

#include <torch/types.h>

namespace convae {

/// Loss of each image: mean over its channels and pixels of the squared (mse) or absolute (l1)
/// difference. Both (N, C, H, W) → (N).
torch::Tensor image_losses(const torch::Tensor& reconstruction, const torch::Tensor& target,
                           LossKind kind);

/// `scale` times the sum of all images' losses, from what Autoencoder::forward_open() gives: the
/// last bias, the output function, the loss and the gradient of all three in one pass. `targets`
/// are in the model's range. Takes maps that can_fuse(); differentiable once. Returns a double.
torch::Tensor fused_loss(const Maps& open, const torch::Tensor& last_bias, const Maps& targets,
                         Output output, LossKind kind, double scale);

}  // namespace convae
