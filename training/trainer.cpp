#include "convae/training/trainer.h"

#include "convae/core/device.h"
#include "convae/core/random.h"
#include "convae/core/text.h"
#include "convae/models/kernels/rank_sums.h"
#include "convae/training/collective.h"
#include "convae/training/feed.h"
#include "convae/training/losses.h"
#include "convae/training/precision.h"
#include "convae/training/schedule.h"
#include "convae/training/validation.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ceil_div.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>

#include <array>
#include <cmath>
#include <utility>

namespace convae {
namespace {

/// Micro-batches that go through the network together: of `most_pixels`, but at least an image.
std::vector<Step> groups_within(const Step& step, std::int64_t most_pixels) {
  std::vector<Step> groups;
  std::int64_t pixels = 0;
  for (const MicroBatch& batch : step) {
    const std::int64_t images = batch.images.size(0);
    const std::int64_t an_image = batch.images.size(2) * batch.images.size(3);
    const std::int64_t most = std::max<std::int64_t>(1, most_pixels / an_image);
    for (std::int64_t begin = 0; begin < images; begin += most) {
      const std::int64_t count = std::min(most, images - begin);
      if (groups.empty() || pixels + count * an_image > most_pixels) {
        groups.emplace_back();
        pixels = 0;
      }
      pixels += count * an_image;
      const auto part = [&](const torch::Tensor& all) {
        return all.defined() ? all.narrow(0, begin, count) : all;
      };
      const auto first = batch.indices.begin() + begin;
      groups.back().push_back(
          {{first, first + count}, part(batch.images), part(batch.corrupted), part(batch.labels)});
    }
  }
  return groups;
}

/// Black, as large as that image.
MicroBatch stand_in(const ImageDataset& images, std::int64_t index) {
  const Size size = images.image_size(index);
  return {{index},
          torch::zeros({1, images.options().channels, size.h, size.w}, torch::kByte)
              .contiguous(torch::MemoryFormat::ChannelsLast)};
}

Size largest_size(const Step& step) {
  Size largest;
  for (const MicroBatch& batch : step) {
    const Size size{batch.images.size(2), batch.images.size(3)};
    largest = std::ranges::max(largest, size, {}, &Size::area);
  }
  return largest;
}

/// (N, *shape), each image's own, so that neither batches nor an interruption change it.
torch::Tensor latent_noise(const std::vector<std::int64_t>& indices, at::IntArrayRef shape,
                           std::uint64_t seed, std::uint64_t epoch) {
  std::vector<torch::Tensor> noise;
  for (const std::int64_t index : indices) {
    CounterRandom random(seed, epoch, static_cast<std::uint64_t>(index), Purpose::latent_noise);
    noise.push_back(at::randn(shape, at::detail::createCPUGenerator(random.next()), torch::kFloat));
  }
  return at::stack(noise);
}

/// A GPU may use half its free memory for them. There, activations and normalised maps are kept
/// beside those of a CPU: about half as much again.
std::int64_t most_pixels_together(const ModelOptions& model, torch::Device device) {
  if (!device.is_cuda()) return Trainer::kMaxPixelsTogether;
  const Size size = model.latent > 0 ? model.size : Size{512, 512};
  const std::int64_t bytes = model.training_bytes_per_image(size) * 3 / 2;
  return std::max<std::int64_t>(1, free_gpu_memory(device) / 2 / bytes * size.area());
}

}  // namespace

Trainer::Trainer(Autoencoder net, ImageDataset& dataset, const TrainOptions& options,
                 torch::Device device, std::int64_t workers)
    : net_(std::move(net)),
      dataset_(dataset),
      options_(options),
      device_(device),
      workers_(workers),
      good_pictures_(good_pictures_for(options.corruptions, dataset)),
      copies_(copy_stream(device)),
      pixels_together_(least_of_ranks(most_pixels_together(net_->options(), device))),
      optimizer_(*net_, options_),
      average_(net_, options_.ema) {}

std::int64_t Trainer::steps_per_epoch() const {
  return at::ceil_div(dataset_.size(), options_.batch_size);
}

std::int64_t Trainer::total_steps() const {
  if (options_.time > 0) {
    const double share = progress_.seconds / (options_.time - kept_free_);
    const auto done = static_cast<double>(schedule_step());
    return static_cast<std::int64_t>(done / std::clamp(share, 1e-6, 1.0)) + (share < 1 ? 1 : 0);
  }
  const std::int64_t all = options_.epochs * steps_per_epoch();
  if (options_.max_steps == 0) return all;
  return std::min(all, schedule_step() + options_.max_steps - progress_.step);
}

std::int64_t Trainer::total_epochs() const {
  return at::ceil_div(total_steps(), std::max<std::int64_t>(1, steps_per_epoch()));
}

std::int64_t Trainer::schedule_step() const {
  // Not progress_.step: after a resume with another batch size, that counts steps of both sizes.
  return progress_.epoch * steps_per_epoch() +
         at::ceil_div(progress_.epoch_position, options_.batch_size);
}

bool Trainer::finished() const {
  const bool time_is_over = options_.time > 0 && progress_.seconds >= options_.time - kept_free_;
  return time_is_over || is_finished(options_, progress_);
}

double Trainer::epoch_loss() const {
  return progress_.epoch_loss_sum / static_cast<double>(progress_.epoch_images);
}

Maps Trainer::latents(const Maps& inputs, std::vector<Maps>& skipped,
                      torch::Tensor& divergence_sum) {
  if (!net_->options().variational) return net_->encoder->forward(inputs, &skipped);
  Maps samples;
  for (const LatentDistribution& distribution : net_->encoder->distributions(inputs)) {
    const torch::Tensor noise =
        latent_noise(in_network_[samples.size()].indices, distribution.mean.sizes().slice(1),
                     options_.seed, static_cast<std::uint64_t>(progress_.epoch + 1));
    const torch::Tensor moved =
        device_.is_cuda() ? noise.pin_memory().to(device_, /*non_blocking=*/true) : noise;
    samples.push_back(sample(distribution, moved));
    const torch::Tensor sum = divergence(distribution).sum();
    divergence_sum = divergence_sum.defined() ? divergence_sum + sum : sum;
  }
  return samples;
}

/// Both in the model's range → the detector's logits.
Maps Trainer::detect(const Maps& inputs, const Maps& outputs) {
  const auto in_unit_range = [&](Maps maps) {
    for (torch::Tensor& map : maps) {
      map = to_unit_range(map.detach().to(torch::kFloat), net_->options().output);
    }
    return maps;
  };
  return net_->detector->logits(in_unit_range(inputs), in_unit_range(outputs));
}

/// What the decoder should give: the targets, or what is to be taken away from the inputs. The
/// losses that are fused depend on the size of a difference alone, not on its sign.
Maps Trainer::decoder_targets(const Maps& inputs, const Maps& targets) const {
  if (!net_->options().residual) return targets;
  Maps differences;
  for (std::size_t i = 0; i < inputs.size(); ++i) differences.push_back(inputs[i] - targets[i]);
  return differences;
}

torch::Tensor Trainer::mean_loss(const Maps& inputs, const Maps& targets, const Maps& labels,
                                 std::int64_t images_in_step) {
  const double share = rank_sums().stands_in ? 0 : 1 / static_cast<double>(images_in_step);
  torch::Tensor divergence_sum, loss;
  const Output output = net_->options().output;
  Maps outputs, logits;
  {
    const Autocast autocast(device_, options_.precision);
    std::vector<Maps> skipped;
    const Maps codes = latents(inputs, skipped, divergence_sum);
    if (device_.is_cpu() && is_fused(options_.loss)) {
      const Maps open = net_->decoder->forward_open(codes, sizes_of(inputs), skipped);
      const auto reconstructed = [&] {
        const torch::NoGradGuard no_grad;
        return net_->finish(net_->decoder->close(open), inputs);
      };
      if (net_->detector) logits = detect(inputs, reconstructed());
      loss = fused_loss(open, net_->decoder->last_bias(), decoder_targets(inputs, targets), output,
                        options_.loss[0].kind, share * options_.loss[0].weight);
    } else {
      outputs = net_->finish(net_->decoder->forward(codes, sizes_of(inputs), skipped), inputs);
      if (net_->detector) logits = detect(inputs, outputs);
    }
  }
  // In float: the variances of SSIM are differences of nearly equal numbers.
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const torch::Tensor sum =
        image_losses(outputs[i].to(torch::kFloat), targets[i], options_.loss, output).sum();
    loss = i == 0 ? sum : loss + sum;
  }
  if (!outputs.empty()) loss = loss * share;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    loss = loss + share * detection_losses(logits[i], labels[i]).sum();
  }
  return divergence_sum.defined() ? loss + options_.beta * share * divergence_sum : loss;
}

torch::Tensor Trainer::backward(std::span<const MicroBatch> batches, std::int64_t images_in_step) {
  const Output output = net_->options().output;
  Maps inputs, targets, labels;
  for (const MicroBatch& batch : batches) {
    const torch::Tensor images = to_float(batch.images, device_);
    targets.push_back(to_model_range(images, output));
    const bool clean = !batch.corrupted.defined();
    inputs.push_back(clean ? targets.back() : to_model_range(batch.corrupted.to(device_), output));
    if (!net_->detector) continue;
    labels.push_back(batch.labels.defined() ? batch.labels.to(device_)
                                            : torch::zeros_like(images.narrow(1, 0, 1)));
  }
  in_network_ = batches;
  const torch::Tensor loss = mean_loss(inputs, targets, labels, images_in_step);
  loss.backward();
  return loss.detach() * images_in_step;
}

/// The gradients of all images of a step; returns the sum of their losses.
torch::Tensor Trainer::backward_all(const Step& step, const StepShare* share) {
  torch::Tensor loss_sum = torch::zeros({}, torch::TensorOptions(torch::kDouble).device(device_));
  if (share == nullptr) {
    for (const Step& batches : groups_within(step, pixels_together_)) {
      loss_sum += backward(batches, image_count(step));
    }
    return loss_sum;
  }
  std::vector<Step> own(share->groups.size());
  for (const MicroBatch& batch : step) own[batch.group].push_back(batch);
  for (std::size_t i = 0; i < own.size(); ++i) {
    // Batch normalisation waits in every layer for all ranks, also for one that has no image.
    rank_sums().stands_in = own[i].empty();
    if (own[i].empty()) own[i].push_back(stand_in(dataset_, share->groups[i][0]));
    loss_sum += backward(own[i], share->images());
  }
  rank_sums().stands_in = false;
  return loss_sum;
}

/// Adds up the gradients and losses of all ranks; returns the loss.
double Trainer::sum_step(const StepShare& share, double loss_sum) {
  std::array sums{loss_sum, static_cast<double>(images_in_step_)};
  ranks().sum(std::span(sums));
  images_in_step_ = static_cast<std::int64_t>(sums[1]);
  // Files that cannot be read are missing.
  const double planned = static_cast<double>(share.images());
  if (images_in_step_ > 0) optimizer_.sum_over_ranks(planned / sums[1]);
  return sums[0];
}

std::optional<double> Trainer::train_step(const Step& step, double lr, const StepShare* share) try {
  images_in_step_ = image_count(step);
  net_->train();
  net_->begin_step();
  optimizer_.zero_grad();
  torch::Tensor loss_sum = backward_all(step, share);
  if (share != nullptr) loss_sum.fill_(sum_step(*share, loss_sum.item<double>()));
  if (images_in_step_ == 0) return std::nullopt;
  const torch::Tensor norm = optimizer_.gradient_norm();
  // Both at once: each look at a number waits until a GPU has done all before it.
  const torch::Tensor found = torch::stack({loss_sum, norm.to(torch::kDouble)}).to(torch::kCPU);
  const auto loss = found[0].item<double>();
  if (!std::isfinite(loss)) return leave_out(step, share, "the loss");
  if (!std::isfinite(found[1].item<double>())) return leave_out(step, share, "the gradient");
  if (options_.clip_grad > 0) optimizer_.clip_gradients(options_.clip_grad, norm);
  optimizer_.step(lr);
  net_->commit_statistics();
  // Not the optimizer's steps: another optimizer counts anew, but the average goes on.
  average_.update(progress_.step - progress_.skipped_steps + 1);
  return loss;
} catch (const c10::OutOfMemoryError&) {  // of a GPU
  throw std::runtime_error(device_.str() + " has too little memory for a step of " +
                           std::to_string(image_count(step)) + " images of up to " +
                           to_string(largest_size(step)) +
                           "; use a smaller --batch-size, --size or --crop, or --precision bf16");
}

void Trainer::train_steps(const std::function<bool()>& after_step) {
  const std::int64_t epoch = progress_.epoch + 1;
  std::vector<Step> plan = plan_training_epoch(dataset_, options_.batch_size, options_.seed, epoch,
                                               progress_.epoch_position);
  const std::vector<StepShare> shares = share_plan(plan);
  std::size_t steps_taken = 0;
  const View view{/*random=*/true, options_.seed, epoch, options_.augmentations};
  Loader loader(dataset_, std::move(plan), view, workers_, /*pinned=*/device_.is_cuda());
  const CorruptionRule rule{options_.corruptions, options_.seed, epoch, good_pictures_};
  Feed feed(loader, rule, copies_, /*ahead=*/device_.is_cuda(), /*labelled=*/!!net_->detector);
  const double seconds_before = progress_.epoch_train_seconds;
  const Stopwatch time;
  double waited = 0;
  while (!finished()) {
    const Stopwatch wait;
    const auto step = feed.next();
    if (!step) break;
    waited += wait.seconds();
    progress_.epoch_lr = rate ? rate()
                              : learning_rate(options_, {schedule_step(), total_steps(),
                                                         progress_.epoch, progress_.lr_falls});
    why_skipped_.clear();
    images_in_step_ = 0;
    const StepShare* share = shares.empty() ? nullptr : &shares[steps_taken++];
    if (share != nullptr || !step->empty()) {
      if (const auto loss_sum = train_step(*step, progress_.epoch_lr, share)) {
        progress_.epoch_loss_sum += *loss_sum;
        progress_.epoch_images += images_in_step_;
      }
    }
    progress_.epoch_position =
        std::min(progress_.epoch_position + options_.batch_size, dataset_.size());
    if (images_in_step_ > 0) ++progress_.step;  // of damaged files alone nothing is learnt
    progress_.epoch_train_seconds = seconds_before + time.seconds();
    note_time();
    if (after_step && after_step()) break;
  }
  waiting_share_ = waited / time.seconds();
  if (progress_.epoch_images == 0 && epoch_complete()) {
    if (progress_.skipped_steps > 0) {
      throw NonFiniteError("no step of epoch " + std::to_string(epoch) +
                           " had a finite loss and gradient; try a lower lr or clip-grad 1");
    }
    throw std::runtime_error("none of the " + std::to_string(dataset_.size()) +
                             " training images can be used");
  }
}

/// Leaves this rank's share in the plan. Nothing where there is one process.
std::vector<StepShare> Trainer::share_plan(std::vector<Step>& plan) const {
  std::vector<StepShare> shares;
  if (ranks().size() == 1) return shares;
  for (Step& step : plan) {
    shares.push_back(
        share_of_step(step, dataset_, pixels_together_, ranks().rank(), ranks().size()));
    step = std::move(shares.back().own);
  }
  return shares;
}

void Trainer::close_epoch() {
  ++progress_.epoch;
  progress_.begin_epoch();
}

void Trainer::restore(const Checkpoint& checkpoint, const std::string& source) {
  load_weights(net_, checkpoint.tensors, source);
  average_.load(checkpoint.tensors, source);
  optimizer_.load_state(checkpoint.tensors, checkpoint.info.progress.optimizer_steps);
  progress_ = checkpoint.info.progress;
  seconds_before_ = progress_.seconds;
}

std::optional<double> Trainer::leave_out(const Step& step, const StepShare* share,
                                         const char* what) {
  std::string names;
  std::int64_t listed = 0;
  const auto list = [&](const std::vector<std::int64_t>& indices) {
    for (const std::int64_t index : indices) {
      if (++listed > 4) continue;
      names += (names.empty() ? "" : ", ") + printable(dataset_.entry(index).file.name);
    }
  };
  if (share != nullptr) {
    for (const auto& group : share->groups) list(group);
  } else {
    for (const MicroBatch& batch : step) list(batch.indices);
  }
  if (listed > 4) names += " and " + std::to_string(listed - 4) + " more";
  const std::string message = std::string(what) + " is not finite at step " +
                              std::to_string(progress_.step + 1) + " (images: " + names + ")";
  if (options_.on_nan == OnNan::stop) {
    throw NonFiniteError(message + "; try a lower lr or clip-grad 1");
  }
  ++progress_.skipped_steps;
  why_skipped_ = message;
  return std::nullopt;
}

}  // namespace convae
