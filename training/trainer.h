#pragma once

#include "convae/core/stopwatch.h"
#include "convae/data/dataset.h"
#include "convae/data/loader.h"
#include "convae/models/autoencoder.h"
#include "convae/training/checkpoint.h"
#include "convae/training/defects.h"
#include "convae/training/ema.h"
#include "convae/training/optimizer.h"
#include "convae/training/options.h"
#include "convae/training/shares.h"

#include <c10/core/Stream.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace convae {

/// The loss or a gradient is not finite. what() says at which step and for which images; the
/// model's weights are those before that step.
class NonFiniteError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// Trains one model on one data set, epoch by epoch or step by step; no files, no printing.
///
///     Trainer trainer(net, images, options, torch::kCPU);
///     for (; !trainer.finished(); trainer.close_epoch()) trainer.train_steps();
class Trainer {
public:
  /// `net` is trained in place and must be on `device` already.
  Trainer(Autoencoder net, ImageDataset& dataset, const TrainOptions& options, torch::Device device,
          std::int64_t workers = 0);

  /// Gives each step's learning rate in place of the schedule, where it is set.
  std::function<double()> rate;

  /// All steps of the epoch; with `max_steps` it may end before, or where `after_step`, called when
  /// progress().step steps are done, says true: the next call goes on with it.
  /// Throws NonFiniteError; std::runtime_error where no image can be used.
  void train_steps(const std::function<bool()>& after_step = {});
  /// The epoch's end, where its sums start at zero again.
  void close_epoch();

  /// One optimizer step on the images of `step`, each counting the same. Images go through the
  /// network together as long as they have at most pixels_together() pixels, so that batch
  /// normalisation sees them as one batch; beyond that, gradients are accumulated. Of several
  /// ranks, each has its share of the step, and `step` is what could be loaded of its own images.
  /// Returns the sum of the images' losses, or nullopt where the step was left out because the loss
  /// or the gradient was not finite (on-nan skip; else NonFiniteError is thrown).
  std::optional<double> train_step(const Step& step, double lr, const StepShare* share = nullptr);

  /// Why the latest step was left out; empty if it was not.
  const std::string& why_skipped() const { return why_skipped_; }

  /// 6 megapixels take about 2 GB in the default network.
  static constexpr std::int64_t kMaxPixelsTogether = 6'000'000;

  /// kMaxPixelsTogether, on a GPU as many as half its memory takes; or less, where memory is short.
  std::int64_t pixels_together() const { return pixels_together_; }
  void limit_pixels_together(std::int64_t most) {
    pixels_together_ = std::min(pixels_together_, most);
  }

  /// Adds `seconds` that were spent on this training before now.
  void add_time(double seconds) { seconds_before_ += seconds; }
  /// Brings progress().seconds up to date; every step does it too.
  void note_time() { progress_.seconds = seconds_before_ + clock_.seconds(); }
  /// Reserves so many seconds of options().time for what comes after the last step, at most three
  /// quarters of it.
  void keep_free(double seconds) { kept_free_ = std::min(seconds, 0.75 * options_.time); }

  /// All epochs, all `max_steps` or the time are used up, or the run stopped early.
  bool finished() const;
  /// The epoch under way has had all its steps.
  bool epoch_complete() const { return progress_.epoch_position >= dataset_.size(); }

  std::int64_t steps_per_epoch() const;
  /// With options().time, as many as fit into it at the speed so far.
  std::int64_t total_steps() const;
  /// Where the schedule is: steps of this batch size that what is done so far would have taken.
  std::int64_t schedule_step() const;
  /// Epochs that total_steps() take, the last of which max_steps or the time may cut short.
  std::int64_t total_epochs() const;
  /// Mean loss of the images of the epoch under way.
  double epoch_loss() const;

  /// Share of the time of the latest train_steps() in which there were no images to work on.
  double waiting_share() const { return waiting_share_; }

  /// Goes on where a checkpoint left off: weights, moments and progress.
  void restore(const Checkpoint& checkpoint, const std::string& source);

  const Progress& progress() const { return progress_; }
  Progress& progress() { return progress_; }
  const Optimizer& optimizer() const { return optimizer_; }
  WeightAverage& average() { return average_; }
  Autoencoder& net() { return net_; }
  ImageDataset& dataset() { return dataset_; }
  const ImageDataset& dataset() const { return dataset_; }
  const TrainOptions& options() const { return options_; }
  const ModelOptions& model() const { return net_->options(); }
  /// What drawn defects take pieces of, in training and validation.
  const GoodPictures& good_pictures() const { return good_pictures_; }
  torch::Device device() const { return device_; }
  std::int64_t workers() const { return workers_; }

private:
  torch::Tensor mean_loss(const Maps& inputs, const Maps& targets, const Maps& labels,
                          std::int64_t images_in_step);
  Maps detect(const Maps& inputs, const Maps& outputs);
  Maps latents(const Maps& inputs, std::vector<Maps>& skipped, torch::Tensor& divergence_sum);
  Maps decoder_targets(const Maps& inputs, const Maps& targets) const;
  torch::Tensor backward(std::span<const MicroBatch> batches, std::int64_t images_in_step);
  torch::Tensor backward_all(const Step& step, const StepShare* share);
  std::optional<double> leave_out(const Step& step, const StepShare* share, const char* what);
  double sum_step(const StepShare& share, double loss_sum);
  std::vector<StepShare> share_plan(std::vector<Step>& plan) const;

  Autoencoder net_;
  ImageDataset& dataset_;
  TrainOptions options_;
  torch::Device device_;
  std::int64_t workers_;
  GoodPictures good_pictures_;
  std::optional<c10::Stream> copies_;
  std::int64_t pixels_together_;
  Optimizer optimizer_;
  WeightAverage average_;
  std::span<const MicroBatch> in_network_;  // whose loss is being computed
  std::int64_t images_in_step_ = 0;         // usable ones of the latest step, of all ranks
  Progress progress_;
  double waiting_share_ = 0;
  Stopwatch clock_;
  double seconds_before_ = 0;  // of a run that is resumed, until now
  double kept_free_ = 0;       // seconds at the end
  std::string why_skipped_;
};

}  // namespace convae
