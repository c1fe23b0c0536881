#include "models/blocks.h"

#include <torch/nn/functional/activation.h>
#include <torch/nn/options/conv.h>

namespace convae {
namespace {

constexpr double kEpsilon = 1e-5;   // torch::nn::BatchNorm2d's
constexpr double kMomentum = 0.1;   // likewise
constexpr double kMaxRatio = 3.0;   // r of batch renormalisation
constexpr double kMaxShift = 5.0;   // d of batch renormalisation

torch::ExpandingArray<2> expand(HW value) { return {{value.h, value.w}}; }

}  // namespace

std::int64_t group_count(std::int64_t channels) {
  for (std::int64_t groups = 8; groups > 1; --groups) {
    if (channels % groups == 0) return groups;
  }
  return 1;
}

torch::Tensor activate(const torch::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::silu: return torch::silu(x);
    case Activation::relu: return torch::relu(x);
    case Activation::leaky_relu: return torch::leaky_relu(x, /*negative_slope=*/0.01);
    case Activation::gelu: return torch::gelu(x);
  }
  return x;
}

BatchNormImpl::BatchNormImpl(std::int64_t channels) {
  weight = register_parameter("weight", torch::ones({channels}));
  bias = register_parameter("bias", torch::zeros({channels}));
  running_mean = register_buffer("running_mean", torch::zeros({channels}));
  running_var = register_buffer("running_var", torch::ones({channels}));
  num_batches_tracked = register_buffer("num_batches_tracked", torch::zeros({}, torch::kLong));
}

torch::Tensor BatchNormImpl::forward(const torch::Tensor& x) {
  const auto evaluate = [&] {
    return torch::batch_norm(x, weight, bias, running_mean, running_var, /*training=*/false,
                             kMomentum, kEpsilon, /*cudnn_enabled=*/true);
  };
  if (!is_training()) return evaluate();

  const std::int64_t count = x.numel() / x.size(1);
  if (count == 1) {
    pool(x.reshape({-1}), torch::zeros_like(running_mean), count);
    torch::Tensor y = evaluate();
    if (!in_step_) commit_statistics();
    return y;
  }

  torch::Tensor scale = weight;
  torch::Tensor shift = bias;
  if (several_ && batches_seen_ > 0) {
    torch::Tensor ratio, offset;
    {
      torch::NoGradGuard no_grad;
      const auto [variance, mean] =
          torch::var_mean(x.to(torch::kFloat), {0, 2, 3}, /*unbiased=*/false);
      const torch::Tensor deviation = torch::sqrt(running_var + kEpsilon);
      ratio = (torch::sqrt(variance + kEpsilon) / deviation).clamp(1 / kMaxRatio, kMaxRatio);
      offset = ((mean - running_mean) / deviation).clamp(-kMaxShift, kMaxShift);
    }
    scale = weight * ratio;
    shift = bias + weight * offset;
  }
  auto [y, mean, inverse_deviation] = torch::native_batch_norm(
      x, scale, shift, /*running_mean=*/{}, /*running_var=*/{}, /*training=*/true, kMomentum,
      kEpsilon);
  pool(mean, inverse_deviation.detach().pow(-2) - kEpsilon, count);
  if (!in_step_) commit_statistics();
  return y;
}

void BatchNormImpl::begin_step(bool several) {
  in_step_ = true;
  several_ = several;
  pooled_count_ = 0;
  refresh_batches_seen();
}

void BatchNormImpl::refresh_batches_seen() {
  // Reading the buffer back from a GPU waits for it, so it is done only until the plain mean of
  // the first steps is over: beyond that the exact number does not matter.
  if (batches_seen_ * kMomentum < 1) batches_seen_ = num_batches_tracked.item<std::int64_t>();
}

void BatchNormImpl::pool(const torch::Tensor& mean, const torch::Tensor& variance,
                         std::int64_t count) {
  // In double: E[x²] - E[x]² cancels where the mean is far above the deviation.
  const torch::Tensor exact_mean = mean.detach().to(torch::kDouble);
  const torch::Tensor sum = exact_mean * count;
  const torch::Tensor square_sum =
      (variance.detach().to(torch::kDouble) + exact_mean.square()) * count;
  if (pooled_count_ == 0) {
    pooled_sum_ = sum;
    pooled_square_sum_ = square_sum;
  } else {
    pooled_sum_ += sum;
    pooled_square_sum_ += square_sum;
  }
  pooled_count_ += count;
}

void BatchNormImpl::commit_statistics() {
  // One value has no variance; moving towards 0 would blow the next evaluation up.
  if (pooled_count_ >= 2) {
    torch::NoGradGuard no_grad;
    const torch::Tensor mean = pooled_sum_ / pooled_count_;
    const torch::Tensor variance = (pooled_square_sum_ / pooled_count_ - mean.square()).clamp_min(0);
    const double unbiased = double(pooled_count_) / double(pooled_count_ - 1);
    refresh_batches_seen();
    ++batches_seen_;
    num_batches_tracked += 1;
    const double momentum = std::max(kMomentum, 1.0 / double(batches_seen_));
    running_mean.lerp_(mean.to(running_mean.dtype()), momentum);
    running_var.lerp_((variance * unbiased).to(running_var.dtype()), momentum);
  }
  pooled_count_ = 0;
  in_step_ = false;
}

BlockImpl::BlockImpl(Kind kind, std::int64_t in_channels, const LevelSpec& level,
                     const ModelOptions& options, bool activated, HW map)
    : kind_(kind),
      level_(level),
      map_(map),
      order_(options.order),
      activation_(options.activation),
      activated_(activated) {
  const std::int64_t out_channels = level.channels;
  switch (kind) {
    case Kind::conv:
      conv_ = register_module(
          "conv", torch::nn::Conv2d(
                      torch::nn::Conv2dOptions(in_channels, out_channels, expand(level.kernel))
                          .stride(expand(level.stride))
                          .padding(expand(level.padding))
                          .dilation(expand(level.dilation))));
      break;
    case Kind::conv_transpose:
      conv_transpose_ = register_module(
          "conv", torch::nn::ConvTranspose2d(torch::nn::ConvTranspose2dOptions(
                                                 in_channels, out_channels, expand(level.kernel))
                                                 .stride(expand(level.stride))
                                                 .padding(expand(level.padding))
                                                 .dilation(expand(level.dilation))));
      break;
    case Kind::linear:
      linear_ = register_module("linear",
                                torch::nn::Linear(in_channels, out_channels * map.h * map.w));
      break;
  }
  if (!activated || options.norm == Norm::none) return;
  if (options.norm == Norm::batch) {
    batch_norm_ = register_module("norm", BatchNorm(out_channels));
  } else {
    group_norm_ = register_module("norm", torch::nn::GroupNorm(torch::nn::GroupNormOptions(
                                              group_count(out_channels), out_channels)));
  }
}

torch::Tensor BlockImpl::convolve(const torch::Tensor& x, HW out) {
  if (kind_ == Kind::conv) return conv_->forward(x);
  if (kind_ == Kind::linear) {
    return linear_->forward(x)
        .view({x.size(0), level_.channels, map_.h, map_.w})
        .contiguous(torch::MemoryFormat::ChannelsLast);
  }
  // ConvTranspose2d::forward(x, output_size) leaves dilation out of its sum, so the
  // output_padding is ours: what is missing without any.
  const auto missing = [](std::int64_t wanted, std::int64_t m, std::int64_t k, std::int64_t s,
                          std::int64_t p, std::int64_t d) {
    return wanted - conv_transpose_length(m, k, s, p, d, /*output_padding=*/0);
  };
  const std::int64_t output_padding[] = {
      missing(out.h, x.size(2), level_.kernel.h, level_.stride.h, level_.padding.h,
              level_.dilation.h),
      missing(out.w, x.size(3), level_.kernel.w, level_.stride.w, level_.padding.w,
              level_.dilation.w)};
  const auto pair = [](HW value) { return std::vector<std::int64_t>{value.h, value.w}; };
  return torch::conv_transpose2d(x, conv_transpose_->weight, conv_transpose_->bias,
                                 pair(level_.stride), pair(level_.padding), output_padding,
                                 /*groups=*/1, pair(level_.dilation));
}

torch::Tensor BlockImpl::normalise(const torch::Tensor& x) {
  if (batch_norm_) return batch_norm_->forward(x);
  if (group_norm_) return group_norm_->forward(x);
  return x;
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x, HW out) {
  const torch::Tensor y = convolve(x, out);
  if (!activated_) return y;
  return order_ == Order::conv_bn_act ? activate(normalise(y), activation_)
                                      : normalise(activate(y, activation_));
}

}  // namespace convae
