#include "convae/training/run.h"

#include "convae/core/files.h"
#include "convae/training/sample_pictures.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kSampleImages = 6;
constexpr std::int64_t kExtremes = 3;  // images shown that came back best, and worst

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

/// Places of the images, smallest error first; an error that is not a number is the largest.
std::vector<std::size_t> by_error(const std::vector<ImageQuality>& images) {
  const auto error = [&](std::size_t place) {
    const double mse = images[place].mse;
    return std::isnan(mse) ? std::numeric_limits<double>::infinity() : mse;
  };
  std::vector<std::size_t> order(images.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return error(a) < error(b); });
  return order;
}

[[noreturn]] void fail_unsaved(const std::string& reason) {
  throw std::runtime_error("the last state of the run could not be saved: " + reason);
}

}  // namespace

TrainingRun::TrainingRun(Trainer& trainer, RunFolder& folder, ImageDataset& training,
                         ImageDataset* validation, TrainOptions options, std::string config,
                         std::int64_t workers)
    : trainer_(trainer),
      folder_(folder),
      training_(training),
      validation_(validation),
      options_(std::move(options)),
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
  if (options_.save_minutes <= 0 || last_save_.seconds() < 60 * options_.save_minutes) return;
  if (attempt([&] { save(folder_.last()); })) save_problem_.clear();
  last_save_.restart();
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
  last_save_.restart();
  while (!trainer_.finished()) {
    const Stopwatch time;
    trainer_.train_epoch();
    if (stop_requested() || !finish_epoch(time)) {
      // Also between the last step and the end of validation: the epoch is closed after a resume.
      save_at_stop();
      return Outcome::interrupted;
    }
  }
  if (!save_problem_.empty()) fail_unsaved(save_problem_);
  return trainer_.progress().stopped_early ? Outcome::stopped_early : Outcome::finished;
}

bool TrainingRun::finish_epoch(const Stopwatch& time) {
  Quality quality;
  Validated validated;
  if (validation_ != nullptr) {
    const UseAverage average(trainer_.average());
    const auto note = [&](std::int64_t index, ImageQuality image) {
      validated.indices.push_back(index);
      validated.images.push_back(std::move(image));
    };
    quality = evaluate(trainer_.net(), *validation_, options_, trainer_.device(), workers_,
                       should_stop, note);
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
                       time.seconds()};
  const double best_value_before = progress.best_value;
  const std::int64_t best_epoch_before = progress.best_epoch;
  const bool is_best = note_epoch(row);
  const bool is_last =
      trainer_.finished() || (trainer_.epoch_complete() && epoch == options_.epochs);
  const bool is_kept = options_.save_every > 0 && epoch % options_.save_every == 0;
  if (is_kept || is_last || epoch == 1) {
    attempt([&] { write_samples(epoch, validated); });
  }
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
  last_save_.restart();
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

void TrainingRun::write_samples(std::int64_t epoch, const Validated& validated) {
  ImageDataset& source = validation_ != nullptr ? *validation_ : training_;
  std::vector<std::int64_t> all(static_cast<std::size_t>(source.size()));
  std::iota(all.begin(), all.end(), 0);
  write_sample(RunFolder::sample_name(epoch), epoch, all, kSampleImages);
  if (validated.images.empty()) return;
  folder_.write_validation({epoch, validated.images});
  const std::vector<std::size_t> order = by_error(validated.images);
  const std::int64_t images = std::ssize(order);
  std::vector<std::int64_t> best, worst;
  for (std::int64_t i = 0; i < std::min(kExtremes, (images + 1) / 2); ++i) {
    best.push_back(validated.indices[order[i]]);
  }
  for (std::int64_t i = 0; i < std::min(kExtremes, images / 2); ++i) {
    worst.push_back(validated.indices[order[images - 1 - i]]);
  }
  write_sample("best", epoch, best, kExtremes);
  if (!worst.empty()) write_sample("worst", epoch, worst, kExtremes);
}

void TrainingRun::write_sample(const std::string& picture, std::int64_t epoch,
                               const std::vector<std::int64_t>& indices, std::int64_t count) {
  const UseAverage average(trainer_.average());
  const CorruptionRule rule{options_.corruptions, options_.seed, /*epoch=*/0};
  const SamplePicture sample =
      sample_picture(trainer_.net(), validation_ != nullptr ? *validation_ : training_, indices,
                     count, rule, trainer_.device());
  folder_.write_sample(picture, epoch, encode_image(sample.picture, ImageFormat::png),
                       sample.images);
}

}  // namespace convae
