#include "convae/inference/model.h"

#include "convae/core/device.h"
#include "convae/core/errors.h"
#include "convae/core/paths.h"
#include "convae/core/random.h"
#include "convae/core/text.h"
#include "convae/models/autoencoder.h"
#include "convae/models/pixels.h"
#include "convae/training/checkpoint.h"
#include "convae/training/precision.h"
#include "convae/training/safetensors.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace convae {

Model::Model(const Autoencoder& net, CheckpointInfo info, std::filesystem::path path,
             std::filesystem::path run)
    : net_(net.ptr()), info_(std::move(info)), path_(std::move(path)), run_(std::move(run)) {
  net_->eval();
}

const ModelOptions& Model::options() const { return net_->options(); }

Autoencoder Model::net() const { return Autoencoder(net_); }

torch::Device Model::device() const { return net_->parameters().front().device(); }

std::string Model::weights_digest() const { return digest_of(weights_of(*net_)); }

torch::Tensor Model::input(const torch::Tensor& images) const {
  if (images.is_floating_point()) return images.to(device(), torch::kFloat);
  const ValueRange& range = info_.value_range;
  if (!range.is_fixed()) return to_float(images, device());
  return ((images.to(device()).to(torch::kFloat) - range.low) / (range.high - range.low))
      .clamp(0, 1);
}

torch::Tensor Model::reconstruct(const torch::Tensor& images) const {
  const torch::NoGradGuard no_grad;
  const Autocast autocast(device(), precision_);
  return reconstruct_images(net(), input(images)).to(torch::kFloat);
}

torch::Tensor Model::encode(const torch::Tensor& images) const {
  options().require_latents("encode");
  const torch::NoGradGuard no_grad;
  const Autocast autocast(device(), precision_);
  return encode_images(net(), input(images)).to(torch::kFloat);
}

torch::Tensor Model::decode(const torch::Tensor& latents, Size size) const {
  options().require_latents("decode");
  const torch::NoGradGuard no_grad;
  const Autocast autocast(device(), precision_);
  return decode_images(net(), latents.to(device(), torch::kFloat), size).to(torch::kFloat);
}

torch::Tensor Model::detect(const torch::Tensor& images,
                            const torch::Tensor& reconstructions) const {
  if (options().detector.empty()) {
    throw std::runtime_error(in_quotes(path_) +
                             " has no detector; train with --detector 16,32,64 --corrupt defects");
  }
  const torch::NoGradGuard no_grad;
  const Autocast autocast(device(), precision_);
  return net_->detect(input(images), reconstructions.to(device())).to(torch::kFloat);
}

Model Model::in_precision(Precision precision, const Callbacks& callbacks) const {
  Model model = *this;
  model.precision_ = choose_precision(precision, options(), device(), callbacks);
  prepare_device(device(), model.precision_, /*deterministic=*/false, /*one_size=*/false);
  return model;
}

void Model::require_variational() const {
  if (options().variational) return;
  throw std::runtime_error(in_quotes(path_) +
                           " is not variational, so nothing is known of how its latents are "
                           "distributed; train with --variational, or see convae interpolate");
}

torch::Tensor Model::draw_latents(std::int64_t count, Size size, std::uint64_t seed,
                                  std::int64_t first) const {
  require_variational();
  require_option(count > 0, fmt::format("count must be at least 1, but is {}", count));
  std::vector<torch::Tensor> latents;
  for (std::int64_t i = 0; i < count; ++i) {
    CounterRandom random(seed, /*epoch=*/0, static_cast<std::uint64_t>(first + i),
                         Purpose::sampling);
    latents.push_back(at::randn(options().latent_shape(size),
                                at::detail::createCPUGenerator(random.next()), torch::kFloat));
  }
  return at::stack(latents).to(device());
}

torch::Tensor Model::sample(std::int64_t count, Size size, std::uint64_t seed) const {
  return decode(draw_latents(count, size, seed), options().latent > 0 ? options().size : size);
}

Model load(const std::filesystem::path& run_or_file, const std::string& device) {
  const torch::Device on = choose_device(device);
  // `latest` may move on while the model is used.
  std::error_code error;
  const bool is_run = std::filesystem::is_directory(run_or_file, error);
  const std::filesystem::path place = is_run ? behind_link(run_or_file) : run_or_file;
  const std::filesystem::path file = find_checkpoint(place);
  const std::filesystem::path path = is_run ? run_or_file / "weights" / file.filename() : file;
  const Checkpoint checkpoint = read_checkpoint(file);
  Autoencoder net(checkpoint.info.model);
  load_weights(net, tensors_to_use(checkpoint), in_quotes(path));
  net->to(on);
  return Model(net, checkpoint.info, path, is_run ? place : std::filesystem::path());
}

std::string checkpoint_line(const Model& model) {
  const Progress& progress = model.info().progress;
  const std::string in =
      model.precision() == Precision::fp32 ? "" : std::string(" · ") + to_string(model.precision());
  return fmt::format("checkpoint {}: epoch {}, step {}, {} channels, levels {}{}",
                     printable(model.path().string()), progress.epoch, progress.step,
                     model.options().channels, to_string(model.options().levels), in);
}

std::string description_json(const Model& model) {
  using nlohmann::ordered_json;
  const ModelOptions& options = model.options();
  const CheckpointInfo& info = model.info();
  const Progress& progress = info.progress;
  ordered_json levels = ordered_json::array();
  for (const LevelSpec& level : options.levels) levels.push_back(to_string(level));
  const bool has_best = progress.best_epoch > 0;
  const ordered_json json = {
      {"file", json_text(model.path().string())},
      {"format", info.format},
      {"convae", info.convae_version},
      {"libtorch", info.libtorch_version},
      {"epoch", progress.epoch},
      {"step", progress.step},
      {"seconds", progress.seconds},
      {"seed", info.seed},
      {"parameters", options.parameter_count()},
      {"channels", options.channels},
      {"range", {options.output == Output::tanh ? -1 : 0, 1}},
      {"value-range", to_string(info.value_range)},
      {"levels", levels},
      {"order", to_string(options.order)},
      {"activation", to_string(options.activation)},
      {"norm", to_string(options.norm)},
      {"latent-channels", options.latent_channels},
      {"latent", options.latent},
      {"size", options.latent > 0 ? ordered_json(to_string(options.size)) : ordered_json(nullptr)},
      {"output", to_string(options.output)},
      {"variational", options.variational},
      {"shortcut", to_string(options.shortcut)},
      {"linear", to_string(options.linear)},
      {"skip", to_string(options.skip)},
      {"residual", options.residual},
      {"detector", options.detector.empty() ? ordered_json(nullptr)
                                            : ordered_json(widths_text(options.detector))},
      {"best-epoch", progress.best_epoch},
      {"best-by", to_string(progress.best_by)},
      {"best-loss", has_best ? ordered_json(progress.best_value) : ordered_json(nullptr)}};
  return json.dump();
}

}  // namespace convae
