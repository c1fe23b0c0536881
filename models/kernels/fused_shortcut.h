#pragma once

#include "convae/core/size.h"
#include "convae/core/tensor.h"

/// A shortcut of models/shortcut.h and its sum with a level's output in one pass. LibTorch's own
/// operations for it cost as much as half the network.
namespace convae {

/// True where the function below applies: maps of one type on a CPU, a stride, and no edge that has
/// to be repeated going up.
bool can_fuse_shortcut(const torch::Tensor& y, const torch::Tensor& x, Size stride, bool down);

/// y + shuffled_down(x) or y + shuffled_up(x), channels-last; in place where no gradient is kept.
/// Differentiable once.
torch::Tensor fused_shortcut(const torch::Tensor& y, const torch::Tensor& x, Size stride,
                             bool down);

}  // namespace convae
