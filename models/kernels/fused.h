#pragma once

#include "convae/models/options.h"

#include <torch/types.h>

#include <vector>

namespace convae {

/// Batches that go through the network side by side, one an image size: (N_i, C, H_i, W_i).
using Maps = std::vector<torch::Tensor>;

/// What follows a convolution, in one pass over the maps instead of one an operation: bias,
/// activation and batch normalisation in either order, with its gradient. Nothing but the
/// convolution's output is kept for it, and the bias's gradient is summed on the way.
struct BlockTail {
  torch::Tensor conv_bias;               ///< (C) that the convolution left out; undefined: none
  torch::Tensor norm_weight, norm_bias;  ///< (C) of batch normalisation; undefined: none
  Order order = Order::conv_bn_act;
  Activation activation = Activation::relu;
};

/// Mean and biased variance of each channel (double, (C)) over `count` values a channel.
struct BatchStatistics {
  torch::Tensor mean, variance;
  std::int64_t count = 0;
};

/// True where the functions below hold: float or bfloat16 maps on a CPU. Elsewhere LibTorch's own
/// modules run.
bool can_fuse(const Maps& maps);

/// Values a channel, of all maps together.
std::int64_t values_per_channel(const Maps& maps);

/// In training, with statistics over all maps together (at least two values a channel where there
/// is normalisation; `epsilon` is added to the variance). Differentiable once. Where `statistics`
/// is not null, it receives what the running statistics move by.
Maps fused_training_tail(const Maps& convolved, const BlockTail& tail, double epsilon,
                         BatchStatistics* statistics);

/// At inference, in place: normalisation is value·scale + shift, both (C). Not differentiable.
void fused_inference_tail_(torch::Tensor& convolved, const BlockTail& tail,
                           const torch::Tensor& scale, const torch::Tensor& shift);

}  // namespace convae
