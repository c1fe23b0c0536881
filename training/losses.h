#pragma once

#include "convae/core/tensor.h"
#include "convae/models/kernels/fused.h"
#include "convae/training/options.h"

namespace convae {

/// Loss of each image, the sum of its terms. Both (N, C, H, W) in the range of a model with that
/// output → (N) float; differentiable. With d the difference of two values:
///
/// | term        | mean over channels and pixels of | range for images in [0,1] |
/// |-------------|----------------------------------|---------------------------|
/// | mse         | d² | 0 … 1 |
/// | l1          | abs d | 0 … 1 |
/// | charbonnier | √(d² + 0.001²) | 0.001 … 1 |
/// | ssim        | 1 - ssim(), see metrics/similarity.h | 0 … 2 |
/// | ms-ssim     | 1 - ms_ssim() | 0 … 1 |
///
/// Charbonnier et al. 1994, https://doi.org/10.1109/ICIP.1994.413553. The first three are taken in
/// the model's range, where tanh doubles d; the last two on [0,1].
torch::Tensor image_losses(const torch::Tensor& reconstruction, const torch::Tensor& target,
                           const Loss& loss, Output output);

/// Loss of a detector on each image: the binary cross-entropy e between its map and how much was
/// changed, y, as kDetectionWeight · (mean(e) + kChangesWeight · Σ(e·y) / (Σy + kFewPixels)). The
/// mean alone would have it learn large defects and no scratches, which are a hundredth of an
/// image. Logits and labels (N, 1, H, W) → (N) float.
torch::Tensor detection_losses(const torch::Tensor& logits, const torch::Tensor& labels);

/// Makes the loss of a detector about as large as that of the reconstruction by the end of a
/// training with `mse`, so that the sum of both says which epoch is best. Neither network learns
/// from the other's part.
inline constexpr double kDetectionWeight = 0.01;
inline constexpr double kChangesWeight = 0.2;
inline constexpr double kFewPixels = 20;

/// Whether fused_loss() can compute that loss: a single mse or l1.
bool is_fused(const Loss& loss);

/// `scale` times the sum of all images' losses, from the maps of Decoder::forward_open(): the last
/// bias, the output function, the loss and the gradient of all three in one pass. `targets` are in
/// the model's range. Needs maps on a CPU; differentiable once. Returns a double scalar.
torch::Tensor fused_loss(const Maps& open, const torch::Tensor& last_bias, const Maps& targets,
                         Output output, LossKind kind, double scale);

}  // namespace convae
