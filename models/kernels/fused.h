#pragma once

#include "convae/core/api.h"
#include "convae/core/tensor.h"
#include "convae/models/options.h"

#include <vector>

namespace CONVAE_API convae {

/// Batches that go through the network side by side, one an image size: (N_i, C, H_i, W_i).
using Maps = std::vector<torch::Tensor>;

/// What follows a convolution, in one pass over the maps instead of one an operation: bias,
/// activation and batch normalisation in either order. The gradient needs only the convolution's
/// output and sums the bias's gradient on the way.
struct BlockTail {
  torch::Tensor conv_bias;               ///< (C) that the convolution left out; undefined: none
  torch::Tensor norm_weight, norm_bias;  ///< (C) of batch normalisation; undefined: none
  Order order = Order::conv_bn_act;
  Activation activation = Activation::relu;
  /// (C), which normalise where several processes have one value a channel together.
  torch::Tensor running_mean = {}, running_var = {};
};

/// Mean and biased variance of each channel (double, (C)) over `count` values a channel.
struct BatchStatistics {
  torch::Tensor mean, variance;
  std::int64_t count = 0;
};

/// True where the functions below apply: float or bfloat16 maps on a CPU, or on a GPU for which
/// code can be compiled. Elsewhere LibTorch's own modules run.
bool can_fuse(const Maps& maps);

/// Values a channel, of all maps together.
std::int64_t values_per_channel(const Maps& maps);

/// In training, with statistics over all maps together (normalisation needs two values a channel;
/// `epsilon` is added to the variance). Differentiable once. `statistics` receives what the running
/// statistics move by; may be null.
Maps fused_training_tail(const Maps& convolved, const BlockTail& tail, double epsilon,
                         BatchStatistics* statistics);

/// At inference, in place: normalisation is value·scale + shift, both (C). Not differentiable.
void fused_inference_tail_(torch::Tensor& convolved, const BlockTail& tail,
                           const torch::Tensor& scale, const torch::Tensor& shift);

}  // namespace convae
