#pragma once

#include "convae/core/api.h"
#include "convae/models/kernels/fused.h"
#include "convae/models/options.h"

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <vector>

namespace CONVAE_API convae {

/// Batch normalisation over (N, C, H, W) with the parameters and buffers of
/// torch::nn::BatchNorm2d (weight, bias, running_mean, running_var, num_batches_tracked).
/// It differs in three points:
///
/// - An optimizer step may have several forward passes. Between begin_step() and
///   commit_statistics() their statistics are pooled, every value counts the same, and the running
///   statistics move once.
/// - A pass with one value a channel (1×1 map, batch of one) has no variance: it is normalised with
///   the running statistics instead of throwing.
/// - The momentum of step t is 6/(t+5), at least 0.02: running statistics average over about the
///   last sixth of the steps so far, in long runs over 50 steps (polynomial-decay averaging,
///   Shamir & Zhang 2013, https://arxiv.org/abs/1212.1824). With torch's 0.1, evaluation trails the
///   weights by whole epochs when an epoch has few steps; a momentum that suits those lets a few
///   unusual images decide how good a long run looks.
class BatchNormImpl : public torch::nn::Module {
public:
  explicit BatchNormImpl(std::int64_t channels);

  /// x: (N, C, H, W) → the same shape.
  torch::Tensor forward(const torch::Tensor& x);

  /// Starts an optimizer step. If never called, each forward pass in training is a step.
  void begin_step();
  /// Moves the running statistics by what the forward passes since begin_step() saw.
  void commit_statistics();
  /// Adds what a forward pass in training saw: (C), with the biased variance.
  void note(const BatchStatistics& statistics);

  static constexpr double kEpsilon = 1e-5;  ///< torch::nn::BatchNorm2d's

  torch::Tensor weight, bias, running_mean, running_var, num_batches_tracked;

private:
  bool in_step_ = false;
  std::int64_t batches_seen_ = 0;      // num_batches_tracked without a device-to-host copy
  std::vector<BatchStatistics> seen_;  // since begin_step()
};
TORCH_MODULE(BatchNorm);

/// How a level's convolution takes its maps and weights: channels-last, which is fast, except with
/// a 1x1 kernel and a stride. There LibTorch 2.13 writes past the end of the weights' gradient on
/// processors that have AVX2 but not AVX-512.
torch::MemoryFormat layout_of(const LevelSpec& level);

/// A convolution, transposed convolution or linear layer, then normalisation and activation in the
/// options' order. Registered as `conv` (or `linear`) and `norm`.
class BlockImpl : public torch::nn::Module {
public:
  enum class Kind { conv, conv_transpose, linear };

  /// `activated` false leaves out normalisation and activation (the decoder's last level).
  /// For Kind::linear, level.channels and `map` are the shape of its output.
  BlockImpl(Kind kind, std::int64_t in_channels, const LevelSpec& level,
            const ModelOptions& options, bool activated, Size map = {1, 1});

  /// Maps of any sizes, (N_i, C, H_i, W_i), or (N_i, D) for Kind::linear → maps of `sizes`, for
  /// which a transposed convolution gets the output_padding. In training, batch normalisation takes
  /// its statistics over all maps, so that images of different sizes are one batch.
  Maps forward(const Maps& maps, const std::vector<Size>& sizes);

  /// The convolutions alone.
  Maps convolve_all(const Maps& maps, const std::vector<Size>& sizes, bool with_bias);

  /// (C); undefined for Kind::linear, which adds its own, one a pixel.
  torch::Tensor conv_bias() const { return kind_ == Kind::linear ? torch::Tensor() : bias_; }

protected:
  /// Whether the fused kernels make forward()'s result, which no backward pass needs then.
  bool fuses(const Maps& maps, const std::vector<Size>& sizes) const;

  Kind kind_;
  LevelSpec level_;

private:
  torch::Tensor convolve(const torch::Tensor& x, Size out, bool with_bias);
  torch::Tensor convolve_as_is(const torch::Tensor& x, Size out, bool with_bias);
  torch::Tensor convolution(const torch::Tensor& x, const torch::Tensor& weight,
                            const torch::Tensor& bias, Size output_padding) const;
  Maps finish_fused(Maps convolved);
  torch::Tensor normalise(const torch::Tensor& x);
  torch::Tensor finish(const torch::Tensor& x);

  Size map_;
  Order order_;
  Activation activation_;
  bool activated_;
  torch::Tensor weight_, bias_;  // of the convolution or linear layer
  BatchNorm batch_norm_{nullptr};
  torch::nn::GroupNorm group_norm_{nullptr};
};
TORCH_MODULE(Block);

/// Heights and widths of batches.
std::vector<Size> sizes_of(const Maps& batches);

/// Groups of a group normalisation over `channels`: the largest divisor up to 8.
std::int64_t group_count(std::int64_t channels);

torch::Tensor activate(const torch::Tensor& x, Activation activation);

}  // namespace convae
