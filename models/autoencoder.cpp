#include "convae/models/autoencoder.h"

#include "convae/models/pixels.h"
#include "convae/models/shortcut.h"

namespace convae {
namespace {

/// Of usual first weights of a last layer whose output is added to something: a fresh network
/// changes that hardly.
constexpr double kFreshResidual = 0.01;

void begin_near_zero(torch::nn::Module& layer) {
  const torch::NoGradGuard none;
  for (torch::Tensor& parameter : layer.parameters(/*recurse=*/false)) {
    parameter.mul_(kFreshResidual);
  }
}

/// Lets the convolution of a decoder's last level begin as what takes its shortcut away again, as
/// far as its kernel reaches; at edges that were cut, a rest stays.
void begin_without_shortcut(torch::nn::Module& layer, const LevelSpec& level) {
  const Size &kernel = level.kernel, &stride = level.stride, &padding = level.padding;
  const bool reaches = level.dilation == Size{1, 1} && padding.h + stride.h <= kernel.h &&
                       padding.w + stride.w <= kernel.w;
  if (!reaches) return;
  const torch::NoGradGuard none;
  const torch::Tensor weight = layer.named_parameters()["weight"];  // (in, out, h, w)
  const std::int64_t in = weight.size(0), out = weight.size(1);
  weight.narrow(2, padding.h, stride.h)
      .narrow(3, padding.w, stride.w)
      .sub_(channel_shares(in, out * stride.area()).view({in, out, stride.h, stride.w}));
}

/// The map that reaches the bottleneck of a model with a dense latent.
Size dense_map(const ModelOptions& options) {
  return plan_sizes(options.levels, options.size, options.channels).latent();
}

std::vector<Size> sizes_at(const std::vector<Plan>& plans, std::size_t level,
                           Size LevelPlan::*side) {
  std::vector<Size> sizes;
  for (const Plan& plan : plans) sizes.push_back(plan.levels[level].*side);
  return sizes;
}

/// Convolutions run two to ten times faster on channels-last data, and keep the layout. With one
/// channel both layouts are alike in memory, and LibTorch goes by the strides: hence a new tensor.
void use_channels_last(torch::nn::Module& module) {
  torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : module.parameters()) {
    if (parameter.dim() != 4) continue;
    parameter.set_data(
        torch::empty_like(parameter, {}, torch::MemoryFormat::ChannelsLast).copy_(parameter));
  }
}

/// Splits the encoder's last map, (N, 2c, h, w) or (N, 2D).
LatentDistribution split_distribution(const torch::Tensor& means_and_log_variances) {
  // In float, whatever the network computed in: the exponential of a rounded logarithm is far off.
  const std::vector<torch::Tensor> halves = means_and_log_variances.to(at::kFloat).chunk(2, 1);
  return {halves[0], halves[1].clamp(-20, 10)};
}

}  // namespace

EncoderImpl::EncoderImpl(const ModelOptions& options) : options_(options) {
  std::int64_t channels = options.channels;
  for (std::size_t i = 0; i < options.levels.size(); ++i) {
    blocks_.emplace_back(register_module(
        std::to_string(i),
        Level(BlockImpl::Kind::conv, channels, options.levels[i], options, /*activated=*/true)));
    channels = options.levels[i].channels;
  }
  const std::int64_t outputs = options.variational ? 2 : 1;  // of a latent number
  if (options.latent_channels > 0) {
    latent_conv_ =
        register_module("latent", torch::nn::Conv2d(torch::nn::Conv2dOptions(
                                      channels, outputs * options.latent_channels, /*kernel=*/1)));
  } else if (options.latent > 0) {
    const Size map = dense_map(options);
    latent_linear_ = register_module(
        "latent", torch::nn::Linear(channels * map.h * map.w, outputs * options.latent));
  }
  if (options.linear == Linear::none) return;
  linear_ = register_module("linear", LinearCode(options));
  begin_near_zero(*named_children()["latent"]);
}

torch::Tensor EncoderImpl::forward(const torch::Tensor& x) { return forward(Maps{x})[0]; }

Maps EncoderImpl::forward(const Maps& batches, std::vector<Maps>* skipped) {
  Maps maps = bottleneck(batches, skipped);
  if (!options_.variational) return maps;
  for (torch::Tensor& map : maps) map = split_distribution(map).mean;
  return maps;
}

std::vector<LatentDistribution> EncoderImpl::distributions(const Maps& batches) {
  TORCH_CHECK(options_.variational, "only a variational encoder gives distributions");
  std::vector<LatentDistribution> distributions;
  for (const torch::Tensor& map : bottleneck(batches)) {
    distributions.push_back(split_distribution(map));
  }
  return distributions;
}

Maps EncoderImpl::bottleneck(const Maps& batches, std::vector<Maps>* skipped) {
  Maps maps;
  std::vector<Plan> plans;
  for (const torch::Tensor& x : batches) {
    TORCH_CHECK(x.dim() == 4 && x.size(1) == options_.channels, "the encoder takes (N, ",
                options_.channels, ", H, W), but got ", x.sizes());
    const Size size{x.size(2), x.size(3)};
    if (options_.latent > 0 && size != options_.size) {
      throw GeometryError("this model has a dense latent and takes images of " +
                          to_string(options_.size) + " only, but got " + to_string(size));
    }
    plans.push_back(plan_sizes(options_.levels, size, options_.channels));
    maps.push_back(x.contiguous(torch::MemoryFormat::ChannelsLast));
  }
  for (std::size_t level = 0; level < blocks_.size(); ++level) {
    maps = blocks_[level]->forward(maps, sizes_at(plans, level, &LevelPlan::out));
    const bool is_last = level + 1 == blocks_.size();
    if (skipped != nullptr && options_.skip == Skip::add && !is_last) skipped->push_back(maps);
  }
  for (std::size_t i = 0; i < maps.size(); ++i) {
    torch::Tensor& x = maps[i];
    if (latent_conv_) x = latent_conv_->forward(x);
    if (latent_linear_) x = latent_linear_->forward(x.flatten(1));
    if (linear_) x = linear_->encode(batches[i]) + x.to(torch::kFloat);
  }
  return maps;
}

DecoderImpl::DecoderImpl(const ModelOptions& options) : options_(options) {
  const std::vector<LevelSpec>& levels = options.levels;
  const std::int64_t deepest = levels.back().channels;
  if (options.linear == Linear::pca) {
    linear_ = register_module("linear", LinearCode(options));
    down_ = register_module("down", Encoder(options.restorer()));
  } else if (options.latent_channels > 0) {
    const LevelSpec pointwise{deepest, {1, 1}, {1, 1}, {0, 0}, {1, 1}};
    latent_block_ = register_module("latent", Block(BlockImpl::Kind::conv, options.latent_channels,
                                                    pointwise, options, /*activated=*/true));
  } else if (options.latent > 0) {
    LevelSpec dense;
    dense.channels = deepest;
    latent_block_ =
        register_module("latent", Block(BlockImpl::Kind::linear, options.latent, dense, options,
                                        /*activated=*/true, dense_map(options)));
  }
  for (std::size_t i = levels.size(); i-- > 0;) {
    LevelSpec mirrored = levels[i];
    mirrored.channels = i > 0 ? levels[i - 1].channels : options.channels;
    blocks_.emplace_back(register_module(
        std::to_string(levels.size() - 1 - i),
        Level(BlockImpl::Kind::conv_transpose, levels[i].channels, mirrored, options,
              /*activated=*/i > 0)));
  }
  if (options.residual || linear_) {
    torch::nn::Module& last = *blocks_.back()->named_children()["conv"];
    begin_near_zero(last);
    if (options.shortcut == Shortcut::shuffle) begin_without_shortcut(last, levels.front());
  }
}

void DecoderImpl::check_latent(const torch::Tensor& latent, Size size, Size map) const {
  if (options_.latent > 0) {
    TORCH_CHECK(latent.dim() == 2 && latent.size(1) == options_.latent, "the decoder takes (N, ",
                options_.latent, "), but got ", latent.sizes());
    if (size == options_.size) return;
    throw GeometryError("this model has a dense latent and gives images of " +
                        to_string(options_.size) + " only, but " + to_string(size) +
                        " was asked for");
  }
  const std::int64_t channels = options_.latent_map_channels();
  TORCH_CHECK(latent.dim() == 4 && latent.size(1) == channels, "the decoder takes (N, ", channels,
              ", h, w), but got ", latent.sizes());
  const Size got{latent.size(2), latent.size(3)};
  if (got != map) {
    throw GeometryError("an image of " + to_string(size) + " has a latent of " + to_string(map) +
                        ", but got " + to_string(got));
  }
}

torch::Tensor DecoderImpl::forward(const torch::Tensor& latent, Size size) {
  return forward(Maps{latent}, std::vector<Size>{size})[0];
}

Maps DecoderImpl::before_output(const Maps& latents, const std::vector<Size>& sizes,
                                std::vector<Maps> skipped, bool open) {
  const std::size_t skips = options_.skip == Skip::add ? blocks_.size() - 1 : 0;
  TORCH_CHECK(skipped.size() == skips, "the decoder needs ", skips,
              " levels' maps of the encoder, but got ", skipped.size());
  Maps maps, images;  // the latter from a linear path
  std::vector<Plan> plans;
  std::vector<Size> deepest;
  for (std::size_t i = 0; i < latents.size(); ++i) {
    plans.push_back(plan_sizes(options_.levels, sizes[i], options_.channels));
    deepest.push_back(plans.back().latent());
    check_latent(latents[i], sizes[i], deepest.back());
    if (linear_) images.push_back(linear_->decode(latents[i], sizes[i]));
    maps.push_back(options_.latent > 0 ? latents[i]
                                       : latents[i].contiguous(torch::MemoryFormat::ChannelsLast));
  }
  if (latent_block_) maps = latent_block_->forward(maps, deepest);
  if (down_) maps = down_->forward(images, &skipped);
  for (std::size_t i = 0; i + 1 < blocks_.size(); ++i) {
    const std::size_t level = blocks_.size() - 1 - i;
    maps = blocks_[i]->forward(maps, sizes_at(plans, level, &LevelPlan::in));
    if (skipped.empty()) continue;
    for (std::size_t k = 0; k < maps.size(); ++k) {
      maps[k] = added(maps[k], skipped[level - 1][k]);
    }
  }
  Level& last = blocks_.back();
  maps = open ? last->forward_open(maps, sizes) : last->forward(maps, sizes);
  for (std::size_t i = 0; i < images.size(); ++i) maps[i] = images[i] + maps[i];
  return maps;
}

Maps DecoderImpl::forward_open(const Maps& latents, const std::vector<Size>& sizes,
                               const std::vector<Maps>& skipped) {
  return before_output(latents, sizes, skipped, /*open=*/true);
}

Maps DecoderImpl::forward(const Maps& latents, const std::vector<Size>& sizes,
                          const std::vector<Maps>& skipped) {
  Maps maps = before_output(latents, sizes, skipped, /*open=*/false);
  for (torch::Tensor& x : maps) x = output_of(x);
  return maps;
}

Maps DecoderImpl::close(const Maps& open) const {
  Maps maps;
  for (const torch::Tensor& x : open) {
    maps.push_back(output_of(x.to(torch::kFloat) + last_bias().view({1, -1, 1, 1})));
  }
  return maps;
}

torch::Tensor DecoderImpl::output_of(const torch::Tensor& x) const {
  // In float: a bfloat16 near 1 is 1, and its gradient 0.
  if (options_.output == Output::sigmoid) return torch::sigmoid(x.to(torch::kFloat));
  if (options_.output == Output::tanh) return torch::tanh(x.to(torch::kFloat));
  return x;
}

AutoencoderImpl::AutoencoderImpl(const ModelOptions& options) : options_(options) {
  options.validate();
  encoder = register_module("encoder", Encoder(options));
  decoder = register_module("decoder", Decoder(options));
  if (!options.detector.empty()) detector = register_module("detector", Detector(options));
  use_channels_last(*this);
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto norm = std::dynamic_pointer_cast<BatchNormImpl>(module)) {
      batch_norms_.emplace_back(norm);
    }
  }
}

torch::Tensor AutoencoderImpl::forward(const torch::Tensor& x) { return forward(Maps{x})[0]; }

Maps AutoencoderImpl::forward(const Maps& batches) {
  std::vector<Maps> skipped;
  const Maps latents = encoder->forward(batches, &skipped);
  return finish(decoder->forward(latents, sizes_of(batches), skipped), batches);
}

Maps AutoencoderImpl::finish(Maps decoded, const Maps& inputs) const {
  if (!options_.residual) return decoded;
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    decoded[i] = inputs[i].contiguous(torch::MemoryFormat::ChannelsLast) - decoded[i];
    if (!is_training()) decoded[i] = decoded[i].clamp(0, 1);
  }
  return decoded;
}

torch::Tensor AutoencoderImpl::detect(const torch::Tensor& images,
                                      const torch::Tensor& reconstructions) {
  TORCH_CHECK(detector, "this model has no detector");
  return detector->forward(images, reconstructions);
}

std::shared_ptr<torch::nn::Module> AutoencoderImpl::clone(
    const std::optional<torch::Device>& device) const {
  auto copy = std::make_shared<AutoencoderImpl>(options_);
  const auto copied = [&](const torch::Tensor& tensor) {
    return tensor.detach().to(device.value_or(tensor.device()), /*non_blocking=*/false,
                              /*copy=*/true);
  };
  auto parameters = copy->named_parameters();
  for (const auto& item : named_parameters()) {
    parameters[item.key()].set_data(copied(item.value()));
    parameters[item.key()].set_requires_grad(item.value().requires_grad());
  }
  auto buffers = copy->named_buffers();
  for (const auto& item : named_buffers()) buffers[item.key()].set_data(copied(item.value()));
  copy->train(is_training());
  return copy;
}

void AutoencoderImpl::begin_step() {
  for (BatchNorm& norm : batch_norms_) norm->begin_step();
}

void AutoencoderImpl::commit_statistics() {
  for (BatchNorm& norm : batch_norms_) norm->commit_statistics();
}

torch::Tensor sample(const LatentDistribution& distribution, const torch::Tensor& noise) {
  return distribution.mean + (distribution.log_variance / 2).exp() * noise;
}

torch::Tensor divergence(const LatentDistribution& distribution) {
  const torch::Tensor& log_variance = distribution.log_variance;
  const torch::Tensor of_numbers =
      (distribution.mean.square() + log_variance.exp() - 1 - log_variance) / 2;
  return of_numbers.flatten(1).mean(1);
}

torch::Tensor encode_images(Autoencoder net, const torch::Tensor& images) {
  return net->encoder->forward(to_model_range(images, net->options().output));
}

torch::Tensor decode_images(Autoencoder net, const torch::Tensor& latents, Size size) {
  return to_unit_range(net->decoder->forward(latents, size), net->options().output);
}

torch::Tensor reconstruct_images(Autoencoder net, const torch::Tensor& images) {
  const Output output = net->options().output;
  return to_unit_range(net->forward(to_model_range(images, output)), output);
}

}  // namespace convae
