#include "convae/models/blocks.h"

#include "convae/models/kernels/product_gradient.h"
#include "convae/models/kernels/rank_sums.h"
#include "convae/models/kernels/subpixel.h"

#include <ATen/autocast_mode.h>
#include <torch/nn/functional/activation.h>
#include <torch/nn/options/conv.h>

#include <algorithm>

namespace convae {
namespace {

// Of the running statistics, see the header.
constexpr double kLeastMomentum = 0.02;
double momentum_of(std::int64_t step) {
  return std::max(kLeastMomentum, 6 / (static_cast<double>(step) + 5));
}

/// All pixels of all maps in one (1, C, M, 1), channels-last.
torch::Tensor pack(const Maps& maps) {
  Maps rows;  // (N·H·W, C) each; no copy, since maps are channels-last
  for (const torch::Tensor& x : maps) {
    rows.push_back(x.permute({0, 2, 3, 1}).reshape({-1, x.size(1)}));
  }
  return torch::cat(rows).unsqueeze(0).unsqueeze(2).permute({0, 3, 1, 2});
}

/// Back to the shapes of `like`; views of `packed`.
Maps unpack(const torch::Tensor& packed, const Maps& like) {
  const torch::Tensor rows = packed.permute({0, 2, 3, 1}).reshape({-1, packed.size(1)});
  Maps maps;
  std::int64_t begin = 0;
  for (const torch::Tensor& x : like) {
    const std::int64_t count = x.numel() / x.size(1);
    maps.push_back(rows.narrow(0, begin, count)
                       .view({x.size(0), x.size(2), x.size(3), x.size(1)})
                       .permute({0, 3, 1, 2}));
    begin += count;
  }
  return maps;
}

/// Whether LibTorch 2.13's bfloat16 convolutions may read past the end of maps of those lengths,
/// `outer` being the larger one, or give garbage: weight gradients where the kernel is wider than
/// the map, results where a stride leaves one pixel, both where a kernel of one pixel is dilated.
bool fails_in_bf16(const Axis& axis, std::int64_t outer, std::int64_t inner) {
  return outer < axis.span() || (inner == 1 && axis.stride > 1) ||
         (axis.kernel == 1 && axis.dilation > 1);
}

/// Of all values of several passes together.
BatchStatistics pooled(const std::vector<BatchStatistics>& passes) {
  if (passes.size() == 1) return passes[0];
  BatchStatistics all;
  torch::Tensor sum = torch::zeros({}, torch::kDouble), square_sum = sum;
  for (const BatchStatistics& pass : passes) {
    // In double: E[x²] - E[x]² cancels where the mean is far above the deviation.
    const torch::Tensor mean = pass.mean.to(torch::kDouble);
    sum = sum + mean * pass.count;
    square_sum = square_sum + (mean.square() + pass.variance.to(torch::kDouble)) * pass.count;
    all.count += pass.count;
  }
  if (all.count == 0) return all;
  all.mean = sum / all.count;
  all.variance = (square_sum / all.count - all.mean.square()).clamp_min(0);
  return all;
}

}  // namespace

std::vector<Size> sizes_of(const Maps& batches) {
  std::vector<Size> sizes;
  for (const torch::Tensor& x : batches) sizes.push_back({x.size(2), x.size(3)});
  return sizes;
}

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
                             /*momentum=*/0, kEpsilon, /*cudnn_enabled=*/true);
  };
  if (!is_training()) return evaluate();

  const std::int64_t count = x.numel() / x.size(1);
  if (count == 1) {
    torch::Tensor y = evaluate();
    note({x.reshape({-1}), torch::zeros_like(running_mean), count});
    return y;
  }

  auto [y, mean, inverse_deviation] =
      torch::native_batch_norm(x, weight, bias, /*running_mean=*/{}, /*running_var=*/{},
                               /*training=*/true, /*momentum=*/0, kEpsilon);
  note({mean, inverse_deviation.detach().pow(-2) - kEpsilon, count});
  return y;
}

void BatchNormImpl::begin_step() {
  in_step_ = true;
  seen_.clear();
}

void BatchNormImpl::note(const BatchStatistics& statistics) {
  seen_.push_back({statistics.mean.detach(), statistics.variance.detach(), statistics.count});
  if (!in_step_) commit_statistics();
}

void BatchNormImpl::commit_statistics() {
  const BatchStatistics all = pooled(seen_);
  // One value has no variance, and a variance of 0 would make the next evaluation explode.
  if (all.count >= 2) {
    torch::NoGradGuard no_grad;
    const double unbiased = double(all.count) / double(all.count - 1);
    // Reading the buffer waits for a GPU: only while the momentum still falls.
    if (momentum_of(batches_seen_) > kLeastMomentum) {
      batches_seen_ = num_batches_tracked.item<std::int64_t>();
    }
    ++batches_seen_;
    num_batches_tracked += 1;
    const double momentum = momentum_of(batches_seen_);
    running_mean.lerp_(all.mean.to(running_mean.dtype()), momentum);
    running_var.lerp_((all.variance * unbiased).to(running_var.dtype()), momentum);
  }
  seen_.clear();
  in_step_ = false;
}

BlockImpl::BlockImpl(Kind kind, std::int64_t in_channels, const LevelSpec& level,
                     const ModelOptions& options, bool activated, Size map)
    : kind_(kind),
      level_(level),
      map_(map),
      order_(options.order),
      activation_(options.activation),
      activated_(activated) {
  const std::int64_t out_channels = level.channels;
  const auto register_layer = [&](const char* name, const auto& layer) {
    register_module(name, layer);
    weight_ = layer->weight;
    bias_ = layer->bias;
  };
  // Strides and the like are arguments of each call, see convolve_as_is().
  if (kind == Kind::linear) {
    register_layer("linear", torch::nn::Linear(in_channels, out_channels * map.h * map.w));
  } else if (kind == Kind::conv) {
    register_layer("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(in_channels, out_channels,
                                                                      per_axis(level.kernel))));
  } else {
    register_layer("conv", torch::nn::ConvTranspose2d(torch::nn::ConvTranspose2dOptions(
                               in_channels, out_channels, per_axis(level.kernel))));
  }
  if (!activated || options.norm == Norm::none) return;
  if (options.norm == Norm::batch) {
    batch_norm_ = register_module("norm", BatchNorm(out_channels));
  } else {
    group_norm_ = register_module("norm", torch::nn::GroupNorm(torch::nn::GroupNormOptions(
                                              group_count(out_channels), out_channels)));
  }
}

torch::Tensor BlockImpl::convolve(const torch::Tensor& x, Size out, bool with_bias) {
  if (kind_ == Kind::linear || !x.device().is_cpu() ||
      !at::autocast::is_autocast_enabled(torch::kCPU)) {
    return convolve_as_is(x, out, with_bias);
  }
  const Size in{x.size(2), x.size(3)};
  const auto [outer, inner] =
      kind_ == Kind::conv_transpose ? std::pair(out, in) : std::pair(in, out);
  if (!fails_in_bf16(level_.vertical(), outer.h, inner.h) &&
      !fails_in_bf16(level_.horizontal(), outer.w, inner.w)) {
    return convolve_as_is(x, out, with_bias);
  }
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return convolve_as_is(x.to(torch::kFloat), out, with_bias).to(torch::kBFloat16);
}

torch::MemoryFormat layout_of(const LevelSpec& level) {
  const bool is_strided_point = level.kernel == Size{1, 1} && level.stride != Size{1, 1};
  return is_strided_point ? torch::MemoryFormat::Contiguous : torch::MemoryFormat::ChannelsLast;
}

torch::Tensor BlockImpl::convolve_as_is(const torch::Tensor& x, Size out, bool with_bias) {
  if (kind_ == Kind::linear) {
    return torch::linear(x, weight_, bias_)
        .view({x.size(0), level_.channels, map_.h, map_.w})
        .contiguous(torch::MemoryFormat::ChannelsLast);
  }
  const torch::Tensor bias = with_bias ? conv_bias() : torch::Tensor();
  const bool transposed = kind_ == Kind::conv_transpose;
  // ConvTranspose2d::forward(x, output_size) leaves dilation out of its sum.
  const Size output_padding =
      transposed ? Size{out.h - level_.vertical().conv_transpose_length(x.size(2)),
                        out.w - level_.horizontal().conv_transpose_length(x.size(3))}
                 : Size{};
  if (layout_of(level_) != torch::MemoryFormat::ChannelsLast) {
    // Copies: of a map with one channel or pixel, contiguous() may leave the strides as they are.
    return convolution(x.clone(torch::MemoryFormat::Contiguous),
                       weight_.clone(torch::MemoryFormat::Contiguous), bias, output_padding)
        .contiguous(torch::MemoryFormat::ChannelsLast);
  }
  if (transposed && suits_subpixels(x, level_.channels, level_)) {
    return subpixel_conv_transpose(x, weight_, bias, level_, output_padding);
  }
  if (suits_products(x, weight_)) {
    return convolution_with_products(x, weight_, bias, level_, transposed, output_padding);
  }
  return convolution(x, weight_, bias, output_padding);
}

torch::Tensor BlockImpl::convolution(const torch::Tensor& x, const torch::Tensor& weight,
                                     const torch::Tensor& bias, Size output_padding) const {
  if (kind_ == Kind::conv) {
    return torch::conv2d(x, weight, bias, per_axis(level_.stride), per_axis(level_.padding),
                         per_axis(level_.dilation));
  }
  return torch::conv_transpose2d(x, weight, bias, per_axis(level_.stride), per_axis(level_.padding),
                                 per_axis(output_padding), /*groups=*/1, per_axis(level_.dilation));
}

torch::Tensor BlockImpl::normalise(const torch::Tensor& x) {
  if (batch_norm_) {
    TORCH_CHECK(rank_sums().sum == nullptr || !is_training(),
                "batch normalisation over several processes needs the fused kernels; on a GPU, "
                "NVRTC");
    return batch_norm_->forward(x);
  }
  if (group_norm_) {
    // LibTorch 2.13 sums channels-last maps in plain floats: at 481x321 the result was up to 8e-4
    // off, in the other layout 1e-6. A copy: contiguous() leaves the strides of a single channel.
    const torch::Tensor y = group_norm_->forward(x.clone(torch::MemoryFormat::Contiguous));
    return y.contiguous(torch::MemoryFormat::ChannelsLast);
  }
  return x;
}

torch::Tensor BlockImpl::finish(const torch::Tensor& x) {
  return order_ == Order::conv_bn_act ? activate(normalise(x), activation_)
                                      : normalise(activate(x, activation_));
}

bool BlockImpl::fuses(const Maps& maps, const std::vector<Size>& sizes) const {
  if (!activated_ || group_norm_ || !can_fuse(maps)) return false;
  if (!is_training()) return !torch::GradMode::is_enabled();
  if (rank_sums().sum != nullptr) return true;  // which know how many values there are
  std::int64_t values = 0;
  for (std::size_t i = 0; i < maps.size(); ++i) values += maps[i].size(0) * sizes[i].h * sizes[i].w;
  return !batch_norm_ || values > 1;
}

Maps BlockImpl::finish_fused(Maps convolved) {
  BlockTail tail{conv_bias(), {}, {}, order_, activation_};
  if (batch_norm_) {
    tail.norm_weight = batch_norm_->weight;
    tail.norm_bias = batch_norm_->bias;
    tail.running_mean = batch_norm_->running_mean;
    tail.running_var = batch_norm_->running_var;
  }
  if (is_training()) {
    BatchStatistics statistics;
    Maps maps = fused_training_tail(convolved, tail, BatchNormImpl::kEpsilon, &statistics);
    if (batch_norm_) batch_norm_->note(statistics);
    return maps;
  }
  torch::Tensor scale, shift;
  if (batch_norm_) {
    scale = batch_norm_->weight / (batch_norm_->running_var + BatchNormImpl::kEpsilon).sqrt();
    shift = batch_norm_->bias - batch_norm_->running_mean * scale;
  }
  for (torch::Tensor& x : convolved) fused_inference_tail_(x, tail, scale, shift);
  return convolved;
}

Maps BlockImpl::convolve_all(const Maps& maps, const std::vector<Size>& sizes, bool with_bias) {
  Maps convolved;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    convolved.push_back(convolve(maps[i], sizes[i], with_bias));
  }
  return convolved;
}

Maps BlockImpl::forward(const Maps& maps, const std::vector<Size>& sizes) {
  if (fuses(maps, sizes)) return finish_fused(convolve_all(maps, sizes, /*with_bias=*/false));
  Maps convolved = convolve_all(maps, sizes, /*with_bias=*/true);
  if (!activated_) return convolved;
  if (batch_norm_ && is_training() && maps.size() > 1) {
    return unpack(finish(pack(convolved)), convolved);
  }
  for (torch::Tensor& x : convolved) x = finish(x);
  return convolved;
}

}  // namespace convae
