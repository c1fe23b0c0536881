#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "models/options.h"

namespace convae {

/// Batch normalisation over (N, C, H, W) with the parameters and buffers of
/// torch::nn::BatchNorm2d (weight, bias, running_mean, running_var, num_batches_tracked).
/// It differs in three points:
///
/// - An optimizer step may be made of several micro-batches of different sizes. Between
///   begin_step(true) and commit_statistics() their statistics are pooled, every value counting
///   the same, and the running statistics move once. Meanwhile each micro-batch is normalised by
///   batch renormalisation (Ioffe 2017, https://arxiv.org/abs/1702.03275; r ≤ 3, |d| ≤ 5): what
///   training sees is what evaluation will see, though the gradient is that of batch statistics.
/// - A micro-batch with one value a channel (1×1 map, batch of one) has no variance: it is
///   normalised by the running statistics instead of throwing.
/// - Running statistics are plain means over the first ten steps and then move with momentum 0.1,
///   so that evaluation after few steps is not biased towards (0, 1).
class BatchNormImpl : public torch::nn::Module {
public:
  explicit BatchNormImpl(std::int64_t channels);

  /// x: (N, C, H, W) → the same shape.
  torch::Tensor forward(const torch::Tensor& x);

  /// Starts an optimizer step; `several` says that more than one forward pass belongs to it.
  /// Never called, each forward pass in training is a step of its own.
  void begin_step(bool several);

  /// Moves the running statistics by what the forward passes since begin_step() saw.
  void commit_statistics();

  torch::Tensor weight, bias, running_mean, running_var, num_batches_tracked;

private:
  void pool(const torch::Tensor& mean, const torch::Tensor& variance, std::int64_t count);
  void refresh_batches_seen();

  bool in_step_ = false;
  bool several_ = false;
  std::int64_t batches_seen_ = 0;  // num_batches_tracked without a device-to-host copy
  std::int64_t pooled_count_ = 0;
  torch::Tensor pooled_sum_, pooled_square_sum_;  // (C)
};
TORCH_MODULE(BatchNorm);

/// A convolution, transposed convolution or linear layer followed by normalisation and activation
/// in the order the options name. Registered as `conv` (or `linear`) and `norm`.
class BlockImpl : public torch::nn::Module {
public:
  enum class Kind { conv, conv_transpose, linear };

  /// `activated` false leaves normalisation and activation out (the decoder's last level).
  /// For Kind::linear, level.channels and `map` describe the map that the layer gives.
  BlockImpl(Kind kind, std::int64_t in_channels, const LevelSpec& level, const ModelOptions& options,
            bool activated, HW map = {1, 1});

  /// x: (N, C, H, W); `out` is the size wanted. A convolution gives it by itself, a transposed
  /// convolution is given the output_padding for it. For Kind::linear x is (N, D).
  torch::Tensor forward(const torch::Tensor& x, HW out);

private:
  torch::Tensor convolve(const torch::Tensor& x, HW out);
  torch::Tensor normalise(const torch::Tensor& x);

  Kind kind_;
  LevelSpec level_;
  HW map_;
  Order order_;
  Activation activation_;
  bool activated_;
  torch::nn::Conv2d conv_{nullptr};
  torch::nn::ConvTranspose2d conv_transpose_{nullptr};
  torch::nn::Linear linear_{nullptr};
  BatchNorm batch_norm_{nullptr};
  torch::nn::GroupNorm group_norm_{nullptr};
};
TORCH_MODULE(Block);

/// Groups of a group normalisation over `channels`: the largest divisor of at most 8.
std::int64_t group_count(std::int64_t channels);

torch::Tensor activate(const torch::Tensor& x, Activation activation);

}  // namespace convae
