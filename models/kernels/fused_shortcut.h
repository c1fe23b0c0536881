#pragma once

#include "convae/core/size.h"
#include "convae/core/tensor.h"

#include <cstdint>
#include <vector>

/// A shortcut of models/shortcut.h and its sum with a level's output in one pass. LibTorch's own
/// operations for it cost as much as half the network.
namespace convae {

/// True where the rest applies to a level's input x and its output of that shape: maps on a CPU, a
/// stride, and no edge that has to be repeated going up.
bool can_fuse_shortcut(const torch::Tensor& x, const std::vector<std::int64_t>& output, Size stride,
                       bool down);

/// A level's input x, for an output of the shape `output`. In training its gradients, of the
/// level's layers and of the shortcut, are added in one pass, in place.
struct ForkedInput {
  ForkedInput(const torch::Tensor& x, const std::vector<std::int64_t>& output, Size stride,
              bool down);

  torch::Tensor maps;  ///< what the layers take
  torch::Tensor link;  ///< where the gradient goes; holds no values
};

/// Adds shuffled_down(x) or shuffled_up(x) to y, in place: of x's type, and used by nobody else.
/// Differentiable once.
void fused_shortcut_(torch::Tensor& y, const ForkedInput& input, Size stride, bool down);

}  // namespace convae
