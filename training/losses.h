#pragma once

#include "training/options.h"

#include <torch/types.h>

namespace convae {

/// Loss of each image: mean over its channels and pixels of the squared (mse) or absolute (l1)
/// difference. Both (N, C, H, W) → (N).
torch::Tensor image_losses(const torch::Tensor& reconstruction, const torch::Tensor& target,
                           LossKind kind);

}  // namespace convae
