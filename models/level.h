#pragma once

#include "convae/core/api.h"
#include "convae/models/blocks.h"
#include "convae/models/options.h"

#include <functional>
#include <vector>

namespace CONVAE_API convae {

/// A residual block (He et al. 2016, https://arxiv.org/abs/1512.03385): x + second(first(x)), both
/// 3×3 convolutions that keep size and channels. The first has normalisation and activation in the
/// options' order, the second neither, so that a fresh block changes little.
/// Children: `first`, `second` (Block).
class ResidualImpl : public torch::nn::Module {
public:
  ResidualImpl(std::int64_t channels, const ModelOptions& options);

  /// (N_i, C, H_i, W_i) → the same shapes.
  Maps forward(const Maps& maps);

private:
  Block first_, second_;
};
TORCH_MODULE(Residual);

/// A level of the encoder (Kind::conv) or decoder (Kind::conv_transpose): a Block, the shortcut
/// around it where options.shortcut asks for one, and level.residual_blocks residual blocks at its
/// smaller size: after a convolution, before a transposed one. The shortcut is added to the level's
/// output, after normalisation and activation; see models/shortcut.h.
/// Children: those of a Block, and `residual0` … (Residual).
class LevelImpl : public BlockImpl {
public:
  /// As of a Block.
  LevelImpl(Kind kind, std::int64_t in_channels, const LevelSpec& level,
            const ModelOptions& options, bool activated);

  Maps forward(const Maps& maps, const std::vector<Size>& sizes);

  /// Of a decoder's last level, without the bias of its convolution.
  Maps forward_open(const Maps& maps, const std::vector<Size>& sizes);

private:
  Maps refined(Maps maps);
  /// layers(inputs) and the shortcut; `in_place`: no backward pass needs the layers' outputs.
  Maps with_shortcut(Maps inputs, const std::vector<Size>& sizes, bool in_place,
                     const std::function<Maps(const Maps&)>& layers) const;

  Shortcut shortcut_;
  std::vector<Residual> residuals_;
};
TORCH_MODULE(Level);

}  // namespace convae
