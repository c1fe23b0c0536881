#include "app/command_line.h"
#include "app/commands.h"
#include "app/config_file.h"
#include "app/inference.h"
#include "app/level_table.h"
#include "app/logging.h"
#include "app/option_table.h"
#include "app/progress_bar.h"
#include "app/training_data.h"
#include "data/file_io.h"
#include "training/training_run.h"

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <map>
#include <set>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

/// Runs are resumed from anywhere.
void make_absolute(DataOptions& options) {
  for (std::string* path : {&options.data, &options.val}) {
    if (!path->empty()) *path = fs::absolute(*path).lexically_normal().string();
  }
}

ImageDataset::Options dataset_options(const DataOptions& options, std::int64_t channels) {
  return {channels,      options.size,     options.crop,
          options.cache, options.skip_bad, options.max_pixels};
}

/// What was given for the model, as flags or in a file, and contradicts the architecture of a
/// checkpoint is refused by name. `line` was read over the options the checkpoint came from.
void refuse_contradictions(const CommandLine& line, const ModelOptions& trained,
                           const std::string& source) {
  Options has;
  has.model = trained;
  has.data.channels = trained.channels;
  const bool other_levels = line.options.model.level_specs() != trained.level_specs();
  const auto check = [&](const OptionSpec& option, const OptionSpec& shown, bool differs) {
    if (!line.has(option.flag()) || !differs) return;
    throw UsageError("--" + option.flag() + " '" + printable(option.get(line.options)) +
                     "' contradicts " + source + ", which has " + shown.name + " " +
                     shown.get(has) + "; leave it out, or train a new run");
  };
  const std::set<std::string> of_levels = {"levels", "kernel", "stride", "padding", "dilation"};
  for (const OptionSpec& option : option_table()) {
    if (option.group != Group::model) continue;
    if (of_levels.contains(option.name)) {
      check(option, *find_option(Group::model, "levels"), other_levels);
    } else {
      check(option, option, option.get(line.options) != option.get(has));
    }
  }
  const OptionSpec& channels = *find_option(Group::data, "channels");
  check(channels, channels,
        line.options.data.channels > 0 && line.options.data.channels != trained.channels);
}

/// config.toml and the checkpoint are UTF-8; a path they cannot hold could not be resumed.
void require_utf8(const std::string& path, const char* flag) {
  try {
    nlohmann::json(path).dump();
  } catch (const nlohmann::json::exception&) {
    throw UsageError(std::string("--") + flag + " '" + printable(path) +
                     "': the name is not UTF-8, so the run could not be resumed; rename the folder "
                     "or use a link to it");
  }
}

/// A training command, from options to the end of the run.
class TrainJob {
public:
  TrainJob(CommandLine line, std::vector<std::string> words)
      : line_(std::move(line)), options_(line_.options), words_(std::move(words)) {}

  int run() {
    if (!options_.call.resume.empty()) {
      prepare_resume();
      if (already_finished()) return kDone;
    } else {
      prepare_start();
    }
    validate();
    device_ = choose_device(options_.run.device);
    threads_ = use_threads(options_.run.threads);
    torch::globalContext().setDeterministicAlgorithms(options_.train.deterministic, false);
    data_ = find_images(options_.data, options_.model);
    if (!options_.data.skip_bad && !data_.skipped.empty()) {
      throw std::runtime_error("'" + printable(data_.skipped[0].name) +
                               "': " + data_.skipped[0].reason + " (--skip-bad is false)");
    }
    build_model();
    describe();
    require_memory();
    return train();
  }

private:
  void prepare_start() {
    require_given(options_.data.data, "data", "--data photos");
    make_absolute(options_.data);
    if (options_.call.init.empty()) return;
    initial_ = read_initial(options_.call.init);
    if (!initial_.info) return;
    // A checkpoint knows its architecture; only what contradicts it must be said.
    const CheckpointInfo& info = *initial_.info;
    Options base;
    base.model = info.model;
    if (!info.config.empty()) base.model = saved_options(info, options_.call.init).model;
    const CommandLine over_base = read_command_line(words_, base);
    refuse_contradictions(over_base, info.model, "'" + printable(options_.call.init) + "'");
    adopt(info.model, over_base.options.model);
  }

  static Options saved_options(const CheckpointInfo& info, const std::string& source) {
    Options saved;
    try {
      read_config(info.config, "its configuration", saved);
    } catch (const UsageError& error) {
      throw CheckpointError("'" + printable(source) + "': " + error.what());
    }
    return saved;
  }

  struct Initial {
    std::map<std::string, torch::Tensor> tensors;
    std::optional<CheckpointInfo> info;
  };

  static Initial read_initial(const std::string& file) {
    const fs::path path = find_checkpoint(file);
    Safetensors contents = read_safetensors(path);
    if (!contents.metadata.contains(kMetadataKey)) return {std::move(contents.tensors), {}};
    Checkpoint checkpoint = read_checkpoint(path);
    return {std::move(checkpoint.tensors), checkpoint.info};
  }

  /// The architecture of a checkpoint, in the words (levels, kernel, …) of its run.
  void adopt(const ModelOptions& model, const ModelOptions& as_written) {
    options_.model = as_written;
    options_.model.channels = model.channels;
    options_.model.size = model.size;
    options_.data.channels = model.channels;
    const bool has_size = options_.data.size.height > 0 || options_.data.crop.height > 0;
    if (model.latent > 0 && !has_size) options_.data.size = {model.size.h, model.size.w};
  }

  void prepare_resume() {
    if (!options_.call.init.empty()) {
      throw UsageError("--init and --resume exclude each other: a resumed run has its weights");
    }
    const fs::path run_path = options_.call.resume;
    std::error_code error;
    if (!fs::exists(run_path / "weights" / "last.safetensors", error)) {
      throw std::runtime_error("--resume '" + printable(run_path.string()) +
                               "': there is no weights/last.safetensors in it");
    }
    folder_ = RunFolder::open(run_path);
    checkpoint_ = read_checkpoint(folder_->last());
    // The run's options, and over them what was given now.
    const Options saved = saved_options(checkpoint_->info, folder_->last().string());
    saved_train_ = saved.train;
    line_ = read_command_line(words_, saved);
    refuse_contradictions(line_, checkpoint_->info.model,
                          "the run " + printable(run_path.string()));
    options_ = line_.options;
    start_logging(options_.run);
    adopt(checkpoint_->info.model, line_.options.model);
    make_absolute(options_.data);
    forget_best_of_other_measure(saved);
    // A new number of epochs is the new total, also of a run that max-steps had ended.
    if (line_.has("epochs") && !line_.has("max-steps")) options_.train.max_steps = 0;
  }

  /// Losses of other images, or other losses, cannot be compared with the best so far.
  void forget_best_of_other_measure(const Options& saved) {
    const DataOptions& was = saved.data;
    const DataOptions& is = options_.data;
    if (options_.train.loss == saved.train.loss && is.data == was.data && is.val == was.val &&
        is.val_split == was.val_split && is.size == was.size && is.crop == was.crop) {
      return;
    }
    Progress& progress = checkpoint_->info.progress;
    if (progress.best_epoch > 0) spdlog::info("loss or images changed: 'best' starts anew");
    progress.best_loss = std::numeric_limits<double>::infinity();
    progress.best_epoch = 0;
    progress.patience_start = progress.epoch;
    progress.stopped_early = false;
  }

  bool already_finished() {
    options_.train.validate();
    Progress& progress = checkpoint_->info.progress;
    const TrainOptions& train = options_.train;
    const bool more = train.epochs > saved_train_.epochs ||
                      train.patience != saved_train_.patience ||
                      train.max_steps != saved_train_.max_steps;
    const bool steps_done = train.max_steps > 0 && progress.step >= train.max_steps;
    if (more && progress.stopped_early) {
      progress.stopped_early = false;
      progress.patience_start = progress.epoch;
    }
    if (progress.epoch < train.epochs && !progress.stopped_early && !steps_done) return false;
    fmt::print(
        "{} is finished ({} epochs, {} steps{}); nothing was changed. Give a larger total, "
        "such as --epochs {}, to go on.\n",
        printable(folder_->path().string()), progress.epoch, progress.step,
        progress.stopped_early ? ", stopped early" : "", progress.epoch + 10);
    return true;
  }

  void validate() {
    options_.data.validate();
    options_.train.validate();
    require_utf8(options_.data.data, "data");
    require_utf8(options_.data.val, "val");
    if (!checkpoint_) {
      require_given(options_.run.output, "output", "-o runs");
      run_name();
    }
    ModelOptions& model = options_.model;
    // The decoder's channels are known only once the images are; everything else is checked now.
    if (model.channels == 0)
      model.channels = options_.data.channels > 0 ? options_.data.channels : 3;
    if (model.latent > 0) {
      const DataOptions& data = options_.data;
      const ImageSize seen = data.crop.height > 0 ? data.crop : data.size;
      if (seen.height == 0) {
        throw UsageError("--latent '" + std::to_string(model.latent) +
                         "': a dense latent works at one input size only, but size is native; set "
                         "--size N or HxW, or use --latent-channels, which takes every size");
      }
      const HW trained = model.size;
      model.size = {seen.height, seen.width};
      if (trained.h > 0 && trained != model.size) {
        throw UsageError("--size '" + to_string(model.size) +
                         "' contradicts the checkpoint, whose " + "dense latent works at " +
                         to_string(trained) + " only; leave --size and --crop out");
      }
    }
    model.validate();
    const ImageSize seen = options_.data.crop.height > 0 ? options_.data.crop : options_.data.size;
    if (seen.height > 0) plan_sizes(model.level_specs(), {seen.height, seen.width}, model.channels);
    require_memory_for_weights();
  }

  /// Weights, gradients and two moments, four bytes each.
  void require_memory_for_weights() const {
    const std::int64_t free_bytes = free_memory_bytes();
    const std::int64_t parameters = options_.model.parameter_count();
    if (free_bytes == 0 || parameters <= free_bytes / 16) return;
    throw std::runtime_error(fmt::format(
        "--levels '{}': {} parameters need {:.1f} GB for training, but {:.1f} GB are free; use "
        "fewer channels",
        options_.model.levels, parameters, static_cast<double>(parameters) * 16e-9,
        static_cast<double>(free_bytes) / 1e9));
  }

  void build_model() {
    options_.model.channels = data_.channels;
    options_.data.channels = data_.channels;
    torch::manual_seed(options_.train.seed);
    net_ = Autoencoder(options_.model);
    if (!options_.call.init.empty()) {
      load_weights(net_, initial_.tensors, "'" + printable(options_.call.init) + "'");
      initial_.tensors.clear();
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

  std::map<ImageSize, std::int64_t> images_by_size() const {
    std::map<ImageSize, std::int64_t> counts;
    for (std::int64_t i = 0; i < training_->size(); ++i) ++counts[training_->image_size(i)];
    return counts;
  }

  /// What a user wants to see before the first step.
  void describe() const {
    spdlog::info("device {} · {} compute threads · {} decoding threads", device_.str(), threads_,
                 worker_count(options_.data));
    log_skipped(data_.skipped);
    const std::map<ImageSize, std::int64_t> sizes = images_by_size();
    const auto common =
        std::max_element(sizes.begin(), sizes.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    spdlog::info("images: {} for training, {} for validation, {} skipped · {} channel{}",
                 training_->size(), validation_ ? validation_->size() : 0, data_.skipped.size(),
                 data_.channels, data_.channels == 1 ? "" : "s");
    const HW shown{common->first.height, common->first.width};
    spdlog::info("sizes: {} different, {} images of {}", sizes.size(), common->second,
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
      const HW shape{size.height, size.width};
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
    const std::int64_t workers = worker_count(options_.data);
    Trainer trainer(net_, *training_, options_.train, device_, workers);
    const bool resumed = checkpoint_.has_value();
    if (resumed) {
      trainer.restore(*checkpoint_, printable(folder_->last().string()));
      checkpoint_.reset();
      stop_in_order();
    } else {
      require_a_readable_image();
      stop_in_order();
      folder_ = RunFolder::create(options_.run.output, run_name());
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
      progress.show(
          "epoch " + std::to_string(p.epoch + 1) + "/" + std::to_string(options_.train.epochs),
          p.step, trainer.total_steps(), images += options_.train.batch_size);
    };
    run.on_epoch = [&](const MetricsRow& row, bool is_best) {
      progress.clear();
      log_epoch(row, is_best, trainer.waiting_share());
      write_skipped();
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
    const TrainingRun::Outcome outcome = run.run();
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
    fmt::print("{}: {} epochs, {} steps, best loss {:.6f} in epoch {}, {} images skipped{}\n",
               printable(folder_->path().string()), p.epoch, p.step, p.best_loss, p.best_epoch,
               all_skipped().size(),
               p.skipped_steps > 0 ? fmt::format(", {} steps not finite", p.skipped_steps) : "");
    return kDone;
  }

  void log_epoch(const MetricsRow& row, bool is_best, double waiting_share) const {
    std::string text =
        fmt::format("epoch {}/{} · step {} · lr {:.2e} · train loss {:.6f}", row.epoch,
                    options_.train.epochs, row.step, row.lr, row.train_loss);
    if (validation_) {
      text += fmt::format(" · val loss {:.6f} · PSNR {:.2f} dB · SSIM {:.4f}", row.val_loss,
                          row.val_psnr, row.val_ssim);
      if (std::isnan(row.val_ssim)) text.erase(text.rfind(" · SSIM"));
    }
    text += fmt::format(" · {:.1f} images/s", row.images_per_s);
    if (waiting_share >= 0.005) text += fmt::format(", {:.0f} % waiting", 100 * waiting_share);
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

  std::string run_name() const {
    if (!options_.run.name.empty()) {
      const fs::path name(options_.run.name);
      if (name.has_parent_path() || name == "." || name == ".." || name == "latest") {
        throw UsageError(
            "--name '" + printable(options_.run.name) +
            "': expected a plain name without '/', other than 'latest', which leads to "
            "the newest run; -o names the folder");
      }
      return options_.run.name;
    }
    const fs::path data(options_.data.data);
    const std::string name = (data.has_filename() ? data : data.parent_path()).filename().string();
    return name.empty() || name == "latest" ? "run" : name;
  }

  CommandLine line_;
  Options options_;
  std::vector<std::string> words_;
  TrainOptions saved_train_;
  Initial initial_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<RunFolder> folder_;
  torch::Device device_ = torch::kCPU;
  std::int64_t threads_ = 1;
  TrainingData data_;
  Autoencoder net_{nullptr};
  std::optional<ImageDataset> training_, validation_;
};

}  // namespace

int run_train(const CommandLine& line, const std::vector<std::string>& words) {
  return TrainJob(line, words).run();
}

}  // namespace convae::app
