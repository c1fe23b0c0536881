#pragma once

#include "convae/core/api.h"
#include "convae/models/blocks.h"
#include "convae/models/options.h"

#include <vector>

namespace CONVAE_API convae {

/// A small U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) that marks where an
/// image is not as it should be. It sees the image, its reconstruction, their difference, and what
/// the image has beyond a Gaussian blur of itself; four pixels side by side become channels, so
/// that it works at half the size and loses no thin line.
///
/// Children: one Block a DetectorLayer, `down0`, `keep0`, `down1`, … `up1`, `merge1`, … `last`.
class DetectorImpl : public torch::nn::Module {
public:
  static constexpr double kBlurSigma = 4;  ///< of the blur, which reaches three of them
  /// Differences are small numbers beside the images they are of.
  static constexpr double kDifferenceGain = 4;

  /// Needs options.detector.
  explicit DetectorImpl(const ModelOptions& options);

  /// Images and their reconstructions, (N, C, H, W) in [0,1] of any size → (N, 1, H, W): logits in
  /// training, else 0 (as it should be) to 1. Nothing flows back into the reconstructions.
  torch::Tensor forward(const torch::Tensor& images, const torch::Tensor& reconstructions);

  /// Logits, for batches of several sizes at once; see Block::forward.
  Maps logits(const Maps& images, const Maps& reconstructions);

private:
  std::vector<DetectorLayer> layers_;
  std::vector<Block> blocks_;
  torch::Tensor gaussian_;  // one axis of the blur; no weight: it is always the same
};
TORCH_MODULE(Detector);

}  // namespace convae
