#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/options/command_line.h"
#include "convae/app/options/config_file.h"
#include "convae/app/output/level_table.h"
#include "convae/app/output/logging.h"
#include "convae/app/output/progress_bar.h"
#include "convae/app/train_setup.h"
#include "convae/app/training_data.h"
#include "convae/core/files.h"
#include "convae/metrics/similarity.h"
#include "convae/reporting/run_views.h"
#include "convae/training/run.h"

#include <spdlog/spdlog.h>

#include <map>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

ImageDataset::Options dataset_options(const DataOptions& options, std::int64_t channels) {
  return {channels,      options.size,     options.crop,
          options.cache, options.skip_bad, options.max_pixels};
}

/// "loss" where that is what the best checkpoint is the best in, else the measure's name.
std::string name_of_best(BestBy measure) {
  const bool is_loss = measure == BestBy::val_loss || measure == BestBy::train_loss;
  return is_loss ? "loss" : to_string(measure);
}

/// A training command, from options to the end of the run.
class TrainJob {
public:
  /// `command` is what was called, for the run's records.
  TrainJob(TrainSetup setup, std::string command)
      : setup_(std::move(setup)),
        command_(std::move(command)),
        options_(setup_.options),
        folder_(std::move(setup_.folder)) {}

  int run() {
    if (setup_.resumed() && setup_.already_finished()) return report_finished();
    check_options(setup_);
    device_ = choose_device(options_.run.device);
    threads_ = use_threads(options_.run.threads);
    torch::globalContext().setDeterministicAlgorithms(options_.train.deterministic, false);
    data_ = find_images(options_);
    if (!options_.data.skip_bad && !data_.skipped.empty()) {
      throw std::runtime_error(in_quotes(data_.skipped[0].name) + ": " + data_.skipped[0].reason +
                               " (--skip-bad is false)");
    }
    require_a_measure();
    build_model();
    describe();
    require_memory();
    return train();
  }

private:
  int report_finished() const {
    const Progress& progress = setup_.checkpoint->info.progress;
    fmt::print(
        "{} is finished ({} epochs, {} steps{}); nothing was changed. Give a larger total, "
        "such as --epochs {}, to go on.\n",
        printable(folder_->path().string()), progress.epoch, progress.step,
        progress.stopped_early ? ", stopped early" : "", progress.epoch + 10);
    return kDone;
  }

  /// The best checkpoint must have something to be the best in.
  void require_a_measure() const {
    const BestBy best = options_.train.best;
    if (data_.validation.empty()) {
      if (best == BestBy::val_loss || best == BestBy::train_loss) return;
      throw UsageError(std::string("--best '") + to_string(best) +
                       "': there are no validation images; give some with --val or --val-split, "
                       "or use --best train_loss");
    }
    const auto has_window = [&](const ImageEntry& entry) {
      const Size size = size_in_batches(entry, options_.data);
      return std::min(size.h, size.w) >= kSimilarityWindow;
    };
    if (best == BestBy::val_ssim &&
        std::none_of(data_.validation.begin(), data_.validation.end(), has_window)) {
      throw UsageError(
          "--best 'val_ssim': no validation image has sides of at least 11 pixels, "
          "which SSIM needs; use --best val_loss");
    }
  }

  void build_model() {
    options_.model.channels = data_.channels;
    options_.data.channels = data_.channels;
    torch::manual_seed(options_.train.seed);
    net_ = Autoencoder(options_.model);
    if (!options_.call.init.empty()) {
      load_weights(net_, setup_.initial, in_quotes(options_.call.init));
      setup_.initial.clear();
    }
    net_->to(device_);
    training_.emplace(std::move(data_.training), dataset_options(options_.data, data_.channels));
    training_->on_bad_file = [](const SkippedFile& bad) { log_skipped({bad}); };
    if (!data_.validation.empty()) {
      validation_.emplace(std::move(data_.validation),
                          dataset_options(options_.data, data_.channels));
      validation_->on_bad_file = training_->on_bad_file;
    }
  }

  /// The size that most images have.
  static Size common_size(const std::map<Size, std::int64_t>& sizes) {
    const auto common =
        std::max_element(sizes.begin(), sizes.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    return {common->first.h, common->first.w};
  }

  std::map<Size, std::int64_t> images_by_size() const {
    std::map<Size, std::int64_t> counts;
    for (std::int64_t i = 0; i < training_->size(); ++i) ++counts[training_->image_size(i)];
    return counts;
  }

  /// What a user wants to see before the first step.
  void describe() const {
    spdlog::info("device {} · {} compute threads · {} decoding threads", device_.str(), threads_,
                 worker_count(options_.data.workers));
    log_skipped(data_.skipped);
    const std::map<Size, std::int64_t> sizes = images_by_size();
    const Size shown = common_size(sizes);
    spdlog::info("images: {} for training, {} for validation, {} skipped · {} channel{}",
                 training_->size(), validation_ ? validation_->size() : 0, data_.skipped.size(),
                 data_.channels, data_.channels == 1 ? "" : "s");
    spdlog::info("sizes: {} different, {} images of {}", sizes.size(), sizes.at({shown.h, shown.w}),
                 to_string(shown));
    std::string table = level_table(options_.model, shown);
    for (std::size_t begin = 0; begin < table.size();) {
      const std::size_t end = table.find('\n', begin);
      spdlog::info("{}", table.substr(begin, end - begin));
      begin = end + 1;
    }
    spdlog::info("{} parameters", options_.model.parameter_count());
    if (!validation_) spdlog::info("no validation images: 'best' follows the training loss");
  }

  /// A process that the system ends for want of memory says nothing; so it is said before.
  void require_memory() const {
    const std::int64_t free_bytes = device_.is_cpu() ? free_memory_bytes() : 0;
    if (free_bytes == 0) return;
    for (const auto& [size, count] : images_by_size()) {
      const Size shape{size.h, size.w};
      const std::int64_t in_float = options_.model.training_bytes_per_image(shape);
      const bool half = options_.train.precision == Precision::bf16;
      const std::int64_t an_image = half ? in_float / 2 : in_float;
      const std::int64_t batch = std::min(count, options_.train.batch_size);
      if (an_image <= free_bytes / batch) continue;
      const std::int64_t fitting = free_bytes / an_image;
      throw std::runtime_error(fmt::format(
          "a batch of {} images of {} needs at least {:.1f} GB for training, but {:.1f} GB are "
          "free; {}resize with --size or cut with --crop",
          batch, to_string(shape), static_cast<double>(an_image) * static_cast<double>(batch) / 1e9,
          static_cast<double>(free_bytes) / 1e9,
          fitting > 0 ? "set --batch-size " + std::to_string(fitting) + " or less, " : ""));
    }
  }

  int train() {
    const std::int64_t workers = worker_count(options_.data.workers);
    Trainer trainer(net_, *training_, options_.train, device_, workers);
    const bool resumed = setup_.resumed();
    if (resumed) {
      trainer.restore(*setup_.checkpoint, printable(folder_->last().string()));
      setup_.checkpoint.reset();
      stop_in_order();
    } else {
      require_a_readable_image();
      stop_in_order();
      folder_ = RunFolder::create(options_.run.output, setup_.run_name());
    }
    // A run keeps its number of threads, wherever it is resumed: results depend on it.
    options_.run.threads = threads_;
    const std::string config = write_config(options_);
    TrainingRun run(trainer, *folder_, *training_, validation_ ? &*validation_ : nullptr,
                    options_.train, config, workers);
    log_to_file(folder_->log());
    spdlog::info("{} {}", resumed ? "resuming" : "run folder", printable(folder_->path().string()));
    begin(run, trainer, config, resumed);
    return finish(run, trainer);
  }

  /// Writes what a resume needs. A new run that cannot even do that leaves nothing behind; one that
  /// is resumed has its last checkpoint and may find room later.
  void begin(TrainingRun& run, Trainer& trainer, const std::string& config, bool resumed) {
    try {
      if (resumed) folder_->cut_metrics(trainer.progress().epoch);
      write_file(folder_->config(), config);
      folder_->add_command(command_);
      folder_->write_skipped(data_.skipped);
      run.save_start();
    } catch (const std::runtime_error& error) {
      if (!resumed) {
        std::error_code ignored;
        fs::remove_all(folder_->path(), ignored);
        throw;
      }
      spdlog::error("{}; the run goes on", error.what());
    }
    if (!resumed) folder_->make_latest();
  }

  int finish(TrainingRun& run, Trainer& trainer) {
    ProgressBar progress(!options_.run.quiet);
    std::int64_t images = 0;
    run.on_step = [&] {
      const Progress& p = trainer.progress();
      progress.show(fmt::format("epoch {}/{}", p.epoch + 1, trainer.total_epochs()), p.step,
                    trainer.total_steps(), images += options_.train.batch_size);
    };
    RunViews views(*folder_, options_, trainer.total_epochs(), common_size(images_by_size()));
    run.on_epoch = [&](const MetricsRow& row, bool is_best) {
      progress.clear();
      log_epoch(row, is_best, trainer);
      write_skipped();
      views.note_epoch(row, trainer.progress(), all_skipped());
    };
    run.on_problem = [&](const std::string& problem) {
      progress.clear();
      spdlog::error("{}; the run goes on", problem);
    };
    trainer.on_skipped_step = [&](const std::string& message) {
      progress.clear();
      spdlog::warn("{}; the step is skipped", message);
    };
    run.should_stop = [] { return stop_signal() != 0; };
    const TrainingRun::Outcome outcome = watched(run, views, trainer);
    progress.clear();
    write_skipped();
    if (outcome == TrainingRun::Outcome::interrupted) {
      spdlog::warn("stopped at step {}; go on with: convae train --resume {}",
                   trainer.progress().step, printable(folder_->path().string()));
      return 128 + stop_signal();
    }
    if (outcome == TrainingRun::Outcome::stopped_early) {
      spdlog::info("stopped early: no better loss for {} epochs", options_.train.patience);
    }
    const Progress& p = trainer.progress();
    fmt::print("{}: {} epochs, {} steps, best {} {:.6f} in epoch {}, {} images skipped{}\n",
               printable(folder_->path().string()), p.epoch, p.step, name_of_best(p.best_by),
               p.best_value, p.best_epoch, all_skipped().size(),
               p.skipped_steps > 0 ? fmt::format(", {} steps not finite", p.skipped_steps) : "");
    return kDone;
  }

  /// Runs it, and leaves views that say how it ended.
  TrainingRun::Outcome watched(TrainingRun& run, RunViews& views, const Trainer& trainer) const {
    using State = RunReport::State;
    views.begin(trainer.progress(), all_skipped());
    try {
      const TrainingRun::Outcome outcome = run.run();
      const State state = outcome == TrainingRun::Outcome::interrupted     ? State::interrupted
                          : outcome == TrainingRun::Outcome::stopped_early ? State::stopped_early
                                                                           : State::finished;
      views.end(state, trainer.progress(), all_skipped());
      return outcome;
    } catch (const std::exception& error) {
      const std::string reason(error.what());
      views.end(State::failed, trainer.progress(), all_skipped(),
                reason.substr(0, reason.find('\n')));
      throw;
    }
  }

  void log_epoch(const MetricsRow& row, bool is_best, const Trainer& trainer) const {
    std::string text =
        fmt::format("epoch {}/{} · step {} · lr {:.2e} · train loss {:.6f}", row.epoch,
                    trainer.total_epochs(), row.step, row.lr, row.train_loss);
    if (validation_) {
      text += fmt::format(" · val loss {:.6f} · PSNR {:.2f} dB · SSIM {:.4f}", row.val_loss,
                          row.val_psnr, row.val_ssim);
      if (std::isnan(row.val_ssim)) text.erase(text.rfind(" · SSIM"));
    }
    text += fmt::format(" · {:.1f} images/s", row.images_per_s);
    const double waiting = trainer.waiting_share();
    if (waiting >= 0.005) text += fmt::format(", {:.0f} % waiting", 100 * waiting);
    spdlog::info("{}{}", text, is_best ? " · best" : "");
  }

  std::vector<SkippedFile> all_skipped() const {
    std::vector<SkippedFile> all = data_.skipped;
    for (const auto* dataset : {&training_, &validation_}) {
      if (!dataset->has_value()) continue;
      for (SkippedFile& bad : (*dataset)->bad_files()) all.push_back(std::move(bad));
    }
    return all;
  }

  /// Not worth ending a run for.
  void write_skipped() const {
    try {
      folder_->write_skipped(all_skipped());
    } catch (const std::runtime_error& error) {
      spdlog::error("{}", error.what());
    }
  }

  /// Headers may be right where the pixels are not: a folder of such files leaves no run behind.
  void require_a_readable_image() {
    for (std::int64_t i = 0; i < training_->size(); ++i) {
      if (training_->load(i)) return;
    }
    require_images({}, options_.data.data,
                   data_.skipped.size() + static_cast<std::size_t>(training_->size()));
  }

  TrainSetup setup_;
  std::string command_;
  Options& options_;
  std::optional<RunFolder> folder_;
  torch::Device device_ = torch::kCPU;
  std::int64_t threads_ = 1;
  TrainingData data_;
  Autoencoder net_{nullptr};
  std::optional<ImageDataset> training_, validation_;
};

}  // namespace

int run_train(const CommandLine& line) {
  return TrainJob(set_up_training(line, line.words), shell_command(line.words)).run();
}

}  // namespace convae::app
