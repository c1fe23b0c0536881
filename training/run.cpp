#include "convae/training/run.h"

#include "convae/core/files.h"
#include "convae/core/text.h"
#include "convae/data/pictures.h"
#include "convae/metrics/image_metrics.h"
#include "convae/training/checkpoint.h"
#include "convae/training/collective.h"
#include "convae/training/corruption.h"
#include "convae/training/memory.h"
#include "convae/training/shared_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <type_traits>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kSampleImages = 6;
constexpr std::int64_t kDefectImages = 8;  // a kind of defect each
// Of a run that trains for a given time:
constexpr double kStepsOverEnd = 10;  // time between the ends of two epochs, in that of an end
constexpr double kMostEnds = 200;
constexpr std::int64_t kExtremes = 3;  // images shown that came back best, and worst

double value_of(const MetricsRow& row, BestBy measure) {
  const std::string_view name = to_string(measure);
  return row.*std::ranges::find(kMetricsColumns, name, &MetricsColumn::name)->value;
}

bool is_better(double value, double than, BestBy measure) {
  const bool more_is_better = measure == BestBy::val_psnr || measure == BestBy::val_ssim;
  return more_is_better ? value > than : value < than;
}

/// Places of the images, smallest error first.
std::vector<std::size_t> by_error(const std::vector<ImageQuality>& images) {
  std::vector<std::size_t> order(images.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::size_t place) { return images[place].mse; });
  return order;
}

/// As validation sees it: with the crop in its middle.
std::optional<torch::Tensor> load_cropped(ImageDataset& source, std::int64_t index) {
  if (!source.options().crop) return source.load(index);
  return source.load_crop(index, [](Size free) { return Size{free.h / 2, free.w / 2}; });
}

bool has(const std::vector<SkippedFile>& files, const SkippedFile& file) {
  return std::ranges::find(files, file) != files.end();
}

[[noreturn]] void fail_unsaved(const std::string& reason) {
  throw std::runtime_error("the last state of the run could not be saved: " + reason);
}

}  // namespace

Run::Run(Parts parts, const Callbacks& callbacks, RunObserver& observer)
    : parts_(std::move(parts)),
      callbacks_(callbacks),
      observer_(observer),
      input_(most_common(images_by_size(trainer_.dataset()))),
      images_(image_digest(trainer_.dataset(), validation_)),
      measured_epoch_(trainer_.progress().epoch),
      only_ends_(parts_.only_ends && trainer_.progress().epoch_images > 0) {}

void Run::begin(const std::string& command) {
  if (!leads()) return;
  command_ = command;
  if (const fs::path aside = folder_.put_aside_metrics(); !aside.empty()) {
    callbacks_.warn("lines of " + in_quotes(folder_.metrics()) + " cannot be read: it is kept as " +
                    in_quotes(aside) + ", and the others go on in a new one");
  }
  folder_.cut_metrics(trainer_.progress().epoch);
  if (validation_ == nullptr) folder_.remove_validation();
  folder_.write_skipped(parts_.skipped);
  if (!parts_.rate_test.empty()) folder_.write_rate_test(parts_.rate_test);
  save(folder_.last());
  write_job();
  write_defects();
}

/// After the checkpoint, whose digest says whether the list is of these images.
void Run::write_job() {
  if (job_is_written_) return;
  write_file(folder_.config(), parts_.config);
  folder_.write_images(trainer_.dataset(), validation_);
  if (!command_.empty()) folder_.add_command(command_);
  job_is_written_ = true;
}

RunState Run::train() {
  if (!leads()) return train_epochs();
  observer_.begin(status());
  try {
    const RunState state = train_epochs();
    write_skipped();
    observer_.end(status(), state, "");
    return state;
  } catch (const std::exception& error) {
    write_skipped();
    observer_.end(status(), RunState::failed, first_line(error.what()));
    throw;
  }
}

RunState Run::train_epochs() {
  last_save_.restart();
  while (!trainer_.finished() || std::exchange(only_ends_, false)) {
    const Stopwatch time;
    const double before = trainer_.progress().epoch_train_seconds;  // of an epoch that goes on
    trainer_.train_steps([this] {
      if (leads()) note_step();
      if (parts_.after_step) parts_.after_step(trainer_.progress());
      return stopped();
    });
    const bool has_ended = trainer_.epoch_complete() || trainer_.finished();
    if (has_ended && is_passed_over()) {
      trainer_.close_epoch();
      continue;
    }
    last_end_.restart();
    const auto quality = has_ended && !stopped() ? measure() : std::nullopt;
    share_skipped();
    if (!quality) {
      // Also between the last step and the end of validation: the epoch is closed after a resume.
      if (leads()) save_at_stop();
      return RunState::interrupted;
    }
    if (leads()) finish_epoch(*quality, before + time.seconds());
    share_progress();
    end_seconds_ = last_end_.seconds();
    // The run must not end here, without its last pictures, because this end took long.
    const double left = trainer_.options().time - trainer_.progress().seconds;
    trainer_.keep_free(std::min(end_seconds_, std::max(0.0, left / 2)));
    last_end_.restart();
  }
  if (!save_problem_.empty()) fail_unsaved(save_problem_);
  return trainer_.progress().stopped_early ? RunState::stopped_early : RunState::finished;
}

/// In a given time, a small folder is seen thousands of times: validating and saving each epoch
/// would take the time that is for training. Patience and plateau count on every epoch.
bool Run::is_passed_over() const {
  const TrainOptions& options = trainer_.options();
  if (options.time <= 0 || options.patience > 0 || options.schedule == ScheduleKind::plateau) {
    return false;
  }
  const bool is_first = trainer_.progress().epoch == 0;
  return !is_first && !trainer_.finished() && !callbacks_.stopped() &&
         last_end_.seconds() < std::max(kStepsOverEnd * end_seconds_, options.time / kMostEnds);
}

/// "epoch 3/20"
std::string Run::place() const {
  const Progress& progress = trainer_.progress();
  const double time = trainer_.options().time;
  if (time <= 0) return fmt::format("epoch {}/{}", progress.epoch + 1, trainer_.total_epochs());
  return fmt::format("epoch {}, {} of {}", progress.epoch + 1,
                     duration_text(std::round(std::min(progress.seconds, time))),
                     duration_text(time));
}

/// Asked to stop, on this rank or another.
bool Run::stopped() const { return on_any_rank(callbacks_.stopped()); }

/// Each rank meets other files; the first rank tells of them all.
void Run::share_skipped() {
  if (ranks().size() == 1) return;
  const std::vector<SkippedFile> before = skipped();
  std::vector<std::pair<std::string, std::string>> mine;
  for (const SkippedFile& bad : bad_files()) mine.emplace_back(bad.name, bad.reason);
  skipped_by_ranks_.clear();
  for (const auto& told : told_by_ranks(mine)) {
    for (const auto& [name, reason] : told) {
      const SkippedFile bad{name, reason};
      if (!has(before, bad) && !has(skipped_by_ranks_, bad)) callbacks_.warn(skipped_line(bad));
      skipped_by_ranks_.push_back(bad);
    }
  }
}

/// What the first rank made of the epoch holds for all.
void Run::share_progress() {
  static_assert(std::is_trivially_copyable_v<Progress>);
  ranks().broadcast(std::as_writable_bytes(std::span(&trainer_.progress(), 1)), 0);
}

void Run::note_step() {
  const Progress& progress = trainer_.progress();
  if (!trainer_.why_skipped().empty()) {
    callbacks_.warn(trainer_.why_skipped() + "; the step is skipped");
  }
  const double minutes = parts_.options.save_minutes;
  const bool is_due = minutes > 0 && last_save_.seconds() >= 60 * minutes;
  const bool is_asked = callbacks_.should_save && callbacks_.should_save();
  if (is_due || is_asked) save_last();
  if (is_asked && save_problem_.empty()) {
    callbacks_.say(fmt::format("saved at step {}", progress.step));
  }
  const std::int64_t images_a_step = trainer_.options().batch_size;
  callbacks_.show(place(), trainer_.schedule_step() * images_a_step,
                  trainer_.total_steps() * images_a_step);
  if (end_seconds_ == 0 && validation_ != nullptr && progress.epoch_images > 0) {
    // Until an epoch's end was timed: the forward pass is a third of a step, measures come on top.
    trainer_.keep_free(progress.epoch_train_seconds / 2 * static_cast<double>(validation_->size()) /
                       static_cast<double>(progress.epoch_images));
  }
}

/// Nothing if the run was stopped.
std::optional<Quality> Run::measure() {
  if (validation_ == nullptr) return Quality{};
  const UseAverage average(trainer_.average());
  const Quality quality = validate(
      trainer_.net(), *validation_, trainer_.options(), trainer_.device(), trainer_.workers(),
      [this] { return callbacks_.stopped(); },
      std::min(kMaxBatchPixels, trainer_.pixels_together()), trainer_.good_pictures());
  return stopped() ? std::nullopt : std::optional(quality);
}

/// Whether this end of an epoch is the run's. A run that ends by its time has used it up: what is
/// left is for saving.
bool Run::note_end() {
  const TrainOptions& options = trainer_.options();
  Progress& progress = trainer_.progress();
  trainer_.note_time();
  const bool is_last_epoch =
      options.time <= 0 && trainer_.epoch_complete() && progress.epoch + 1 == options.epochs;
  if (!trainer_.finished()) return is_last_epoch;
  if (!progress.stopped_early) progress.seconds = std::max(progress.seconds, options.time);
  return true;
}

void Run::finish_epoch(const Quality& quality, double seconds) {
  const MetricsRow row = row_of(quality, seconds);
  if (validation_ != nullptr && quality.images.empty()) {
    callbacks_.warn(fmt::format(
        "none of the {} validation images can be used any more: epoch {} cannot be the best",
        validation_->size(), row.epoch));
  }
  Progress& progress = trainer_.progress();
  const Progress before = progress;
  const std::string at = place();
  bool is_best = note_epoch(row);
  const bool is_last = note_end();
  // In a given time some epochs are passed over.
  const std::int64_t every = parts_.options.save_every;
  const bool is_kept = every > 0 && row.epoch / every > measured_epoch_ / every;
  measured_epoch_ = row.epoch;
  if (is_kept || is_last || row.epoch == 1) attempt([&] { write_samples(row.epoch, quality); });
  // The row goes first: a run killed in between has a row too many, which a resume cuts, instead
  // of one too few.
  attempt([&] { folder_.add_metrics(row); });
  if (trainer_.epoch_complete()) trainer_.close_epoch();
  if (is_best && !attempt([&] { save(folder_.best()); })) {
    // The next best must not have to beat one that is lost.
    progress.best_value = before.best_value;
    progress.best_epoch = before.best_epoch;
    is_best = false;
  }
  if (is_kept && progress.epoch == row.epoch) {
    attempt([&] { save(folder_.epoch_weights(row.epoch)); });
  }
  save_last();
  callbacks_.say(at + epoch_line(row) + (is_best ? " · best" : ""));
  write_skipped();
  observer_.epoch(status(), row, is_best);
}

MetricsRow Run::row_of(const Quality& quality, double seconds) const {
  const Progress& progress = trainer_.progress();
  return {progress.epoch + 1,
          progress.step,
          progress.epoch_lr,
          trainer_.epoch_loss(),
          quality.loss,
          quality.mse,
          quality.psnr,
          quality.ssim,
          static_cast<double>(progress.epoch_images) / progress.epoch_train_seconds,
          seconds};
}

bool Run::note_epoch(const MetricsRow& row) {
  const TrainOptions& options = trainer_.options();
  Progress& progress = trainer_.progress();
  progress.best_by = validation_ != nullptr ? options.best : BestBy::train_loss;
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
      options.patience > 0 && waited(progress.patience_start) >= options.patience;
  if (options.schedule == ScheduleKind::plateau &&
      waited(progress.plateau_start) >= options.lr_epochs) {
    ++progress.lr_falls;
    progress.plateau_start = row.epoch;
  }
  return is_best;
}

std::string Run::epoch_line(const MetricsRow& row) const {
  std::string line =
      fmt::format(" · step {} · lr {:.2e} · train loss {:.6f}", row.step, row.lr, row.train_loss);
  if (validation_ != nullptr) {
    line += fmt::format(" · val loss {:.6f} · PSNR {:.2f} dB", row.val_loss, row.val_psnr);
    if (!std::isnan(row.val_ssim)) line += fmt::format(" · SSIM {:.4f}", row.val_ssim);
  }
  line += fmt::format(" · {:.1f} images/s", row.images_per_s);
  const double waiting = trainer_.waiting_share();
  return waiting < 0.005 ? line : line + fmt::format(", {:.0f} % waiting", 100 * waiting);
}

/// Images that this rank could not use.
std::vector<SkippedFile> Run::bad_files() const {
  std::vector<SkippedFile> all = trainer_.dataset().bad_files();
  if (validation_ != nullptr) std::ranges::copy(validation_->bad_files(), std::back_inserter(all));
  return all;
}

std::vector<SkippedFile> Run::skipped() const {
  std::vector<SkippedFile> all = parts_.skipped;
  std::ranges::copy(bad_files(), std::back_inserter(all));
  for (const SkippedFile& bad : skipped_by_ranks_) {
    if (!has(all, bad)) all.push_back(bad);
  }
  return all;
}

RunStatus Run::status() const {
  return {folder_,
          trainer_.model(),
          trainer_.options(),
          trainer_.progress(),
          callbacks_,
          trainer_.total_epochs(),
          input_,
          skipped()};
}

void Run::save(const fs::path& path) const {
  CheckpointInfo info;
  info.seed = trainer_.options().seed;
  info.progress = trainer_.progress();
  info.images = images_;
  info.config = parts_.config;
  info.value_range = trainer_.dataset().options().value_range;
  save_checkpoint(path, trainer_.net(), &trainer_.optimizer(), info, &trainer_.average());
}

void Run::save_all() {
  save(folder_.last());
  folder_.catch_up();
  write_job();
}

void Run::save_last() {
  if (attempt([&] { save_all(); })) save_problem_.clear();
  last_save_.restart();
}

void Run::save_at_stop() {
  folder_.require_in_place();
  try {
    save_all();
  } catch (const CheckpointError&) {
    throw;
  } catch (const std::runtime_error& error) {
    fail_unsaved(error.what());
  }
}

/// False where it failed, such as on a full disk: the run goes on and tries again later.
bool Run::attempt(const std::function<void()>& write) {
  folder_.require_in_place();
  try {
    write();
    return true;
  } catch (const CheckpointError&) {
    throw;  // weights that are not finite: nothing to try again
  } catch (const std::runtime_error& error) {
    folder_.require_in_place();
    save_problem_ = error.what();
    callbacks_.warn(save_problem_ + "; the run goes on");
    return false;
  }
}

/// Not worth ending a run for.
void Run::write_skipped() {
  if (!folder_.is_in_place()) return;
  try {
    folder_.write_skipped(skipped());
  } catch (const std::runtime_error& error) {
    callbacks_.warn(error.what());
  }
}

ImageDataset& Run::shown_images() {
  return validation_ != nullptr ? *validation_ : trainer_.dataset();
}

void Run::write_samples(std::int64_t epoch, const Quality& quality) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(shown_images().size()));
  std::iota(all.begin(), all.end(), 0);
  write_sample(RunFolder::sample_name(epoch), epoch, all, kSampleImages);
  if (quality.images.empty()) return;
  folder_.write_validation({epoch, quality.images});
  const std::vector<std::size_t> order = by_error(quality.images);
  const std::int64_t images = std::ssize(order);
  std::vector<std::int64_t> best, worst;
  for (std::int64_t i = 0; i < std::min(kExtremes, (images + 1) / 2); ++i) {
    best.push_back(quality.indices[order[i]]);
  }
  for (std::int64_t i = 0; i < std::min(kExtremes, images / 2); ++i) {
    worst.push_back(quality.indices[order[images - 1 - i]]);
  }
  write_sample("best", epoch, best, kExtremes);
  if (!worst.empty()) {
    write_sample("worst", epoch, worst, kExtremes);
  } else {
    folder_.remove_samples([](const SampleRow& row) { return row.picture == "worst"; });
  }
}

/// So that people see whether the defects look like theirs.
void Run::write_defects() {
  if (!has(trainer_.options().corruptions, Effect::Kind::defects)) {
    std::error_code ignored;
    fs::remove(folder_.defects(), ignored);  // of an earlier start of the run
    return;
  }
  ImageDataset& source = shown_images();
  std::vector<torch::Tensor> images;
  for (std::int64_t i = 0; i < source.size() && std::ssize(images) < kDefectImages; ++i) {
    const auto image = load_cropped(source, i);
    if (image) images.push_back(to_float(image->unsqueeze(0), torch::kCPU)[0]);
  }
  if (images.empty()) return;
  write_file(folder_.defects(),
             encode_image(defect_sheet(images, trainer_.good_pictures(), trainer_.options().seed),
                          ImageFormat::png));
}

/// Of the first `count` of these images that can be read, below each other.
void Run::write_sample(const std::string& picture, std::int64_t epoch,
                       const std::vector<std::int64_t>& indices, std::int64_t count) {
  const torch::NoGradGuard no_grad;
  const UseAverage average(trainer_.average());
  const CorruptionRule rule{trainer_.options().corruptions, trainer_.options().seed, /*epoch=*/0,
                            trainer_.good_pictures()};
  ImageDataset& source = shown_images();
  trainer_.net()->eval();
  std::vector<torch::Tensor> pictures;
  std::vector<ImageQuality> images;
  for (const std::int64_t index : indices) {
    if (std::ssize(pictures) == count) break;
    const auto image = load_cropped(source, index);
    if (!image) continue;
    const torch::Tensor clean = to_float(image->unsqueeze(0), trainer_.device());
    const torch::Tensor input = corrupt(clean, rule, {index});
    const torch::Tensor made = reconstruct_images(trainer_.net(), input);
    const auto mse = image_mse(made, clean)[0].item<double>();
    images.push_back({source.entry(index).file.name, source.image_size(index), mse, psnr(mse),
                      image_ssim(made, clean)[0].item<double>()});
    pictures.push_back(
        comparison_picture(input[0].cpu(), made[0].cpu(), clean[0].cpu(), kMaxSampleSide));
  }
  folder_.require_in_place();  // the network has taken its time
  folder_.write_sample(picture, epoch, encode_image(stack_pictures(pictures), ImageFormat::png),
                       images);
}

}  // namespace convae
