#include "training/training_run.h"

#include "data/file_io.h"
#include "training/corruption.h"
#include "training/pictures.h"

#include <chrono>
#include <cmath>

namespace convae {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kSampleImages = 6;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double value_of(const MetricsRow& row, BestBy measure) {
  switch (measure) {
    case BestBy::val_loss:
      return row.val_loss;
    case BestBy::val_mse:
      return row.val_mse;
    case BestBy::val_psnr:
      return row.val_psnr;
    case BestBy::val_ssim:
      return row.val_ssim;
    case BestBy::train_loss:
      return row.train_loss;
  }
  return row.val_loss;
}

bool is_better(double value, double than, BestBy measure) {
  const bool more_is_better = measure == BestBy::val_psnr || measure == BestBy::val_ssim;
  return more_is_better ? value > than : value < than;
}

[[noreturn]] void fail_unsaved(const std::string& reason) {
  throw std::runtime_error("the last state of the run could not be saved: " + reason);
}

}  // namespace

TrainingRun::TrainingRun(Trainer& trainer, RunFolder& folder, ImageDataset& training,
                         ImageDataset* validation, const TrainOptions& options, std::string config,
                         std::int64_t workers)
    : trainer_(trainer),
      folder_(folder),
      training_(training),
      validation_(validation),
      options_(options),
      config_(std::move(config)),
      workers_(workers) {}

void TrainingRun::save(const fs::path& path) const {
  CheckpointInfo info;
  info.seed = options_.seed;
  info.progress = trainer_.progress();
  info.config = config_;
  save_checkpoint(path, trainer_.net(), &trainer_.optimizer(), info, &trainer_.average());
}

void TrainingRun::save_start() { save(folder_.last()); }

bool TrainingRun::attempt(const std::function<void()>& write) {
  try {
    write();
    return true;
  } catch (const CheckpointError&) {
    throw;  // weights that are not finite: nothing to try again
  } catch (const std::runtime_error& error) {
    std::error_code ignored;
    if (!fs::exists(folder_.last().parent_path(), ignored)) {
      throw std::runtime_error("the run folder '" + printable(folder_.path().string()) +
                               "' is gone; there is nowhere to save to");
    }
    save_problem_ = error.what();
    if (on_problem) on_problem(save_problem_);
    return false;
  }
}

void TrainingRun::save_in_time() {
  if (options_.save_minutes <= 0 || seconds_since(last_save_) < 60 * options_.save_minutes) return;
  if (attempt([&] { save(folder_.last()); })) save_problem_.clear();
  last_save_ = Clock::now();
}

void TrainingRun::save_at_stop() const {
  try {
    save(folder_.last());
  } catch (const CheckpointError&) {
    throw;
  } catch (const std::runtime_error& error) {
    fail_unsaved(error.what());
  }
}

TrainingRun::Outcome TrainingRun::run() {
  trainer_.on_step = [&] {
    save_in_time();
    if (on_step) on_step();
  };
  trainer_.should_stop = should_stop;
  last_save_ = Clock::now();
  while (!trainer_.finished()) {
    const Clock::time_point start = Clock::now();
    trainer_.train_epoch();
    if (stop_requested() || !finish_epoch(start)) {
      // Also between the last step and the end of validation: the epoch is closed after a resume.
      save_at_stop();
      return Outcome::interrupted;
    }
  }
  if (!save_problem_.empty()) fail_unsaved(save_problem_);
  return trainer_.progress().stopped_early ? Outcome::stopped_early : Outcome::finished;
}

bool TrainingRun::finish_epoch(Clock::time_point start) {
  Quality quality;
  if (validation_ != nullptr) {
    const UseAverage average(trainer_.average());
    quality =
        evaluate(trainer_.net(), *validation_, options_, trainer_.device(), workers_, should_stop);
    if (stop_requested()) return false;
  }
  Progress& progress = trainer_.progress();
  const std::int64_t epoch = progress.epoch + 1;
  const MetricsRow row{epoch,
                       progress.step,
                       progress.epoch_lr,
                       trainer_.epoch_loss(),
                       quality.loss,
                       quality.mse,
                       quality.psnr,
                       quality.ssim,
                       static_cast<double>(progress.epoch_images) / progress.epoch_train_seconds,
                       seconds_since(start)};
  const double best_value_before = progress.best_value;
  const std::int64_t best_epoch_before = progress.best_epoch;
  const bool is_best = note_epoch(row);
  const bool is_last =
      trainer_.finished() || (trainer_.epoch_complete() && epoch == options_.epochs);
  const bool is_kept = options_.save_every > 0 && epoch % options_.save_every == 0;
  if (is_kept || is_last || epoch == 1) attempt([&] { write_sample(epoch); });
  // The row goes first: a run killed in between has a row too many, which a resume cuts, instead
  // of one too few.
  attempt([&] { folder_.add_metrics(row); });
  if (trainer_.epoch_complete()) trainer_.begin_next_epoch();
  if (is_best && !attempt([&] { save(folder_.best()); })) {
    // What could not be kept is not the one to beat.
    progress.best_value = best_value_before;
    progress.best_epoch = best_epoch_before;
  }
  if (is_kept && trainer_.progress().epoch == epoch) {
    attempt([&] { save(folder_.epoch_weights(epoch)); });
  }
  if (attempt([&] { save(folder_.last()); })) save_problem_.clear();
  last_save_ = Clock::now();
  if (on_epoch) on_epoch(row, is_best);
  return true;
}

bool TrainingRun::note_epoch(const MetricsRow& row) {
  Progress& progress = trainer_.progress();
  progress.best_by = validation_ != nullptr ? options_.best : BestBy::train_loss;
  const double value = value_of(row, progress.best_by);
  const bool is_best =
      std::isfinite(value) && (progress.best_epoch == 0 || std::isnan(progress.best_value) ||
                               is_better(value, progress.best_value, progress.best_by));
  if (is_best) {
    progress.best_value = value;
    progress.best_epoch = row.epoch;
  }
  const auto waited = [&](std::int64_t from) {
    return row.epoch - std::max(progress.best_epoch, from);
  };
  progress.stopped_early =
      options_.patience > 0 && waited(progress.patience_start) >= options_.patience;
  if (options_.schedule == ScheduleKind::plateau &&
      waited(progress.plateau_start) >= options_.lr_epochs) {
    ++progress.lr_falls;
    progress.plateau_start = row.epoch;
  }
  return is_best;
}

bool TrainingRun::stop_requested() const { return should_stop && should_stop(); }

void TrainingRun::write_sample(std::int64_t epoch) {
  torch::NoGradGuard no_grad;
  const UseAverage average(trainer_.average());
  ImageDataset& source = validation_ != nullptr ? *validation_ : training_;
  const CorruptionRule rule{options_.corruptions, options_.seed, /*epoch=*/0};
  Autoencoder& net = trainer_.net();
  net->eval();
  std::vector<torch::Tensor> pictures;
  for (std::int64_t i = 0; i < source.size() && std::ssize(pictures) < kSampleImages; ++i) {
    const ImageSize crop = source.options().crop;
    auto image = source.load(i);
    if (!image) continue;
    if (crop.height > 0) {
      image = crop_image(*image, crop, (image->size(1) - crop.height) / 2,
                         (image->size(2) - crop.width) / 2);
    }
    const torch::Tensor clean = to_float(image->unsqueeze(0), trainer_.device());
    const torch::Tensor input = corrupt(clean, rule, {i});
    const Output output = net->options().output;
    const torch::Tensor reconstruction =
        to_unit_range(net->forward(to_model_range(input, output)), output);
    pictures.push_back(comparison_picture(input[0].cpu(), reconstruction[0].cpu(), clean[0].cpu()));
  }
  write_file(folder_.sample(epoch), encode_image(stack_pictures(pictures), ImageFormat::png));
}

}  // namespace convae
