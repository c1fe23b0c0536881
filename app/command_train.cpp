#include "app/command_line.h"
#include "app/commands.h"
#include "app/config_file.h"
#include "app/inference.h"
#include "app/level_table.h"
#include "app/logging.h"
#include "app/progress_bar.h"
#include "data/file_io.h"
#include "training/training_run.h"

#include <spdlog/spdlog.h>

#include <map>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

/// The images of a run, split.
struct TrainingData {
  fs::path folder;
  std::vector<ImageEntry> training, validation;
  std::vector<SkippedFile> skipped;
  std::int64_t channels = 3;
};

FolderScan scan(const fs::path& folder, const DataOptions& options) {
  return scan_headers(list_images(folder), options.max_pixels, worker_count(options));
}

/// Leaves out what cannot be cropped or does not fit the levels.
void keep_usable(FolderScan& scan, const DataOptions& options, const ModelOptions& model) {
  const std::vector<LevelSpec> levels = model.level_specs();
  std::vector<ImageEntry> usable;
  for (ImageEntry& entry : scan.entries) {
    const ImageSize stored = options.size.height > 0 ? options.size : entry.file_size();
    const ImageSize seen = options.crop.height > 0 ? options.crop : stored;
    std::optional<std::string> reason = why_impossible(levels, {seen.height, seen.width});
    if (seen.height > stored.height || seen.width > stored.width) {
      reason = "smaller than the crop of " + to_string(HW{seen.height, seen.width});
    }
    if (reason) {
      scan.skipped.push_back({entry.file.name, *reason});
    } else {
      usable.push_back(std::move(entry));
    }
  }
  scan.entries = std::move(usable);
}

void require_images(const std::vector<ImageEntry>& entries, const std::string& folder,
                    std::size_t skipped) {
  if (!entries.empty()) return;
  throw std::runtime_error("no usable image in '" + printable(folder) + "' (" +
                           std::to_string(skipped) +
                           " skipped); convae reads JPEG, PNG, BMP, TIFF and WebP");
}

/// Where no file is of use, says of each why; otherwise describe() will.
void require_usable(const FolderScan& scan, const std::string& folder) {
  if (scan.entries.empty()) log_skipped(scan.skipped);
  require_images(scan.entries, folder, scan.skipped.size());
}

TrainingData find_images(const DataOptions& options, const ModelOptions& model) {
  TrainingData data;
  data.folder = training_folder(options.data);
  if (data.folder != fs::path(options.data)) {
    spdlog::info("'{}' has the MVTec layout: training on train/good", printable(options.data));
  }
  FolderScan all = scan(data.folder, options);
  // Names are relative to the folder the user named.
  const fs::path inner = data.folder.lexically_relative(options.data);
  const std::string prefix = inner == "." ? "" : inner.generic_string() + "/";
  for (ImageEntry& entry : all.entries) entry.file.name.insert(0, prefix);
  for (SkippedFile& file : all.skipped) file.name.insert(0, prefix);
  keep_usable(all, options, model);
  require_usable(all, options.data);
  FolderScan validation;
  if (!options.val.empty()) {
    validation = scan(options.val, options);
    keep_usable(validation, options, model);
    require_usable(validation, options.val);
  }
  data.channels = options.channels > 0                      ? options.channels
                  : all.all_grey() && validation.all_grey() ? 1
                                                            : 3;
  data.validation = std::move(validation.entries);
  for (ImageEntry& entry : all.entries) {
    const bool held_out =
        options.val.empty() && in_validation_share(entry.file.name, options.val_split);
    (held_out ? data.validation : data.training).push_back(std::move(entry));
  }
  if (data.training.empty()) {
    throw std::runtime_error(
        "all " + std::to_string(data.validation.size()) + " images in '" + printable(options.data) +
        "' fall into the validation share; use more " + "images, --val DIR or --val-split 0");
  }
  data.skipped = std::move(all.skipped);
  data.skipped.insert(data.skipped.end(), validation.skipped.begin(), validation.skipped.end());
  return data;
}

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

/// Flags of the model that contradict the architecture of a checkpoint are refused by name.
void refuse_contradictions(const CommandLine& line, const ModelOptions& trained,
                           const std::string& source) {
  const auto refuse = [&](const char* flag, const std::string& asked, const std::string& has) {
    throw UsageError(std::string("--") + flag + " '" + asked + "' contradicts " + source +
                     ", which has " + has + "; leave it out, or train a new run");
  };
  const ModelOptions& asked = line.options.model;
  const auto differs = [&](const char* flag, auto ModelOptions::*member) {
    return line.has(flag) && asked.*member != trained.*member;
  };
  const auto text = [](auto value) {
    if constexpr (std::is_same_v<decltype(value), std::int64_t>)
      return std::to_string(value);
    else
      return std::string(to_string(value));
  };
  const auto check = [&](const char* flag, auto ModelOptions::*member) {
    if (differs(flag, member)) refuse(flag, text(asked.*member), text(trained.*member));
  };
  for (const char* flag : {"levels", "kernel", "stride", "padding", "dilation"}) {
    if (line.has(flag) && asked.level_specs() != trained.level_specs()) {
      refuse(flag, flag == std::string("levels") ? asked.levels : "…", "levels " + trained.levels);
    }
  }
  check("order", &ModelOptions::order);
  check("activation", &ModelOptions::activation);
  check("norm", &ModelOptions::norm);
  check("latent-channels", &ModelOptions::latent_channels);
  check("latent", &ModelOptions::latent);
  check("output-activation", &ModelOptions::output);
  const std::int64_t channels = line.options.data.channels;
  if (line.has("channels") && channels > 0 && channels != trained.channels) {
    refuse("channels", std::to_string(channels), std::to_string(trained.channels));
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
    refuse_contradictions(line_, initial_.info->model, "'" + printable(options_.call.init) + "'");
    adopt(initial_.info->model);
  }

  struct Initial {
    std::map<std::string, torch::Tensor> tensors;
    std::optional<CheckpointInfo> info;
  };

  static Initial read_initial(const std::string& file) {
    const fs::path path = find_checkpoint(file);
    Safetensors contents = read_safetensors(path);
    if (contents.metadata.count(kMetadataKey) == 0) return {std::move(contents.tensors), {}};
    Checkpoint checkpoint = read_checkpoint(path);
    return {std::move(checkpoint.tensors), checkpoint.info};
  }

  void adopt(const ModelOptions& model) {
    options_.model = model;
    options_.data.channels = model.channels;
    const bool has_size = options_.data.size.height > 0 || options_.data.crop.height > 0;
    if (model.latent > 0 && !has_size) options_.data.size = {model.size.h, model.size.w};
  }

  void prepare_resume() {
    const fs::path run_path = options_.call.resume;
    std::error_code error;
    if (!fs::exists(run_path / "weights" / "last.safetensors", error)) {
      throw std::runtime_error("--resume '" + printable(run_path.string()) +
                               "': there is no weights/last.safetensors in it");
    }
    folder_ = RunFolder::open(run_path);
    checkpoint_ = read_checkpoint(folder_->last());
    refuse_contradictions(line_, checkpoint_->info.model,
                          "the run " + printable(run_path.string()));
    // The run's options, and over them what was given now.
    Options saved;
    read_config(checkpoint_->info.config, "the configuration in " + folder_->last().string(),
                saved);
    saved_train_ = saved.train;
    const std::string call_resume = options_.call.resume;
    options_ = read_command_line(words_, saved).options;
    options_.call.resume = call_resume;
    adopt(checkpoint_->info.model);
    make_absolute(options_.data);
    // A new number of epochs is the new total, also of a run that max-steps had ended.
    if (line_.has("epochs") && !line_.has("max-steps")) options_.train.max_steps = 0;
  }

  bool already_finished() {
    Progress& progress = checkpoint_->info.progress;
    const TrainOptions& train = options_.train;
    const bool more = train.epochs > saved_train_.epochs ||
                      train.patience != saved_train_.patience ||
                      train.max_steps != saved_train_.max_steps;
    const bool steps_done = train.max_steps > 0 && progress.step >= train.max_steps;
    if (more) progress.stopped_early = false;
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
    choose_device(options_.run.device);
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

  /// What a user wants to see before the first step.
  void describe() const {
    spdlog::info("device {} · {} compute threads · {} decoding threads", device_.str(), threads_,
                 worker_count(options_.data));
    log_skipped(data_.skipped);
    std::map<ImageSize, std::int64_t> sizes;
    for (std::int64_t i = 0; i < training_->size(); ++i) ++sizes[training_->image_size(i)];
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
    std::map<ImageSize, std::int64_t> counts;
    for (std::int64_t i = 0; i < training_->size(); ++i) ++counts[training_->image_size(i)];
    for (const auto& [size, count] : counts) {
      const HW shape{size.height, size.width};
      const std::int64_t an_image = options_.model.training_bytes_per_image(shape);
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
      folder_->cut_metrics(trainer.progress().epoch);
    } else {
      require_a_readable_image();
      folder_ = RunFolder::create(options_.run.output, run_name());
    }
    const std::string config = write_config(options_);
    write_file(folder_->config(), config);
    folder_->write_skipped(data_.skipped);
    log_to_file(folder_->log());
    spdlog::info("{} {}", resumed ? "resuming" : "run folder", printable(folder_->path().string()));
    TrainingRun run(trainer, *folder_, *training_, validation_ ? &*validation_ : nullptr,
                    options_.train, config, workers);
    if (!resumed) run.save_start();
    return finish(run, trainer);
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
      log_epoch(row, is_best);
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

  void log_epoch(const MetricsRow& row, bool is_best) const {
    std::string text =
        fmt::format("epoch {}/{} · step {} · lr {:.2e} · train loss {:.6f}", row.epoch,
                    options_.train.epochs, row.step, row.lr, row.train_loss);
    if (validation_) {
      text += fmt::format(" · val loss {:.6f} · PSNR {:.2f} dB · SSIM {:.4f}", row.val_loss,
                          row.val_psnr, row.val_ssim);
    }
    spdlog::info("{} · {:.1f} images/s{}", text, row.images_per_s, is_best ? " · best" : "");
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
      if (name.has_parent_path() || name == "." || name == "..") {
        throw UsageError("--name '" + printable(options_.run.name) +
                         "': expected a plain name without '/'; -o names the folder");
      }
      return options_.run.name;
    }
    const std::string name = fs::path(options_.data.data).filename().string();
    return name.empty() ? fs::path(options_.data.data).parent_path().filename().string() : name;
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
