#include "convae/training/train.h"

#include "convae/core/device.h"
#include "convae/core/machine.h"
#include "convae/core/paths.h"
#include "convae/core/stopwatch.h"
#include "convae/core/text.h"
#include "convae/data/split.h"
#include "convae/data/value_range.h"
#include "convae/metrics/similarity.h"
#include "convae/models/plan_text.h"
#include "convae/training/checkpoint.h"
#include "convae/training/collective.h"
#include "convae/training/linear_start.h"
#include "convae/training/memory.h"
#include "convae/training/precision.h"
#include "convae/training/rate_test.h"
#include "convae/training/run.h"
#include "convae/training/run_log.h"
#include "convae/training/run_observer.h"
#include "convae/training/saved_data.h"

#include <c10/core/InferenceMode.h>
#include <torch/utils.h>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <sstream>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// Whether values measured so far can be compared with those to come. Whether the folders hold the
/// same images as before, compare_images() finds out.
bool is_comparable(const TrainJob& job) {
  if (!job.earlier) return true;
  const DataOptions& data = job.data;
  const TrainOptions& train = job.train;
  const auto& [was_data, was_train] = *job.earlier;
  return is_same_folder(data.data, was_data.data) && is_same_folder(data.val, was_data.val) &&
         data.val_split == was_data.val_split && data.group_regex == was_data.group_regex &&
         data.include == was_data.include && data.exclude == was_data.exclude &&
         data.images == was_data.images && data.size == was_data.size &&
         data.crop == was_data.crop &&
         to_string(data.value_range) == to_string(was_data.value_range) &&
         train.corruptions == was_train.corruptions && train.loss == was_train.loss &&
         (train.corruptions.empty() || train.seed == was_train.seed) &&
         train.beta == was_train.beta && train.best == was_train.best;
}

/// config.toml and the checkpoint are UTF-8; what they cannot hold could not be resumed.
void require_utf8(const std::string& text, const char* flag, const char* way_out) {
  require_option(is_utf8(text), std::string("--") + flag + " " + in_quotes(text) +
                                    ": it is not UTF-8, so the run could not be resumed; " +
                                    way_out);
}

void require_utf8(const DataOptions& data) {
  constexpr const char* kRename = "rename the folder or use a link to it";
  constexpr const char* kStar = "write * in place of such bytes";
  require_utf8(data.data, "data", kRename);
  require_utf8(data.val, "val", kRename);
  for (const std::string& glob : data.include) require_utf8(glob, "include", kStar);
  for (const std::string& glob : data.exclude) require_utf8(glob, "exclude", kStar);
  require_utf8(data.group_regex, "group-regex", "write . in place of such bytes");
}

/// The size every image reaches the network at; {0, 0}: they have several.
Size one_size(const DataOptions& data) { return data.crop ? data.crop : data.size; }

void fix_size_of_dense_latent(ModelOptions& model, const DataOptions& data) {
  model.require_latents("latent");
  const Size seen = one_size(data);
  require_option(
      static_cast<bool>(seen),
      fmt::format("--latent '{}': a dense latent works at one input size only, but size is native; "
                  "set --size N or HxW, or use --latent-channels, which takes every size",
                  model.latent));
  require_option(!model.size || model.size == seen,
                 fmt::format("--size '{}' contradicts the checkpoint, whose dense latent works at "
                             "{} only; leave --size and --crop out",
                             to_string(seen), to_string(model.size)));
  model.size = seen;
}

/// A run to go on with; it is locked as long as `folder` lives.
struct SavedRun {
  RunFolder folder;
  Checkpoint checkpoint;
};

/// The architecture of a checkpoint takes the place of the job's, and so does the range its weights
/// expect values in, unless one is asked for.
void adopt(TrainJob& job, const Checkpoint& checkpoint) {
  ValueRange& range = job.data.value_range;
  if (range.kind == ValueRange::Kind::unsaid) range = checkpoint.info.value_range;
  if (!checkpoint.is_described) return;
  const ModelOptions& model = checkpoint.info.model;
  job.model = model;
  job.data.channels = model.channels;
  if (model.latent > 0 && !one_size(job.data)) job.data.size = model.size;
}

/// Returns whether there was a best.
bool forget_best(Progress& progress) {
  progress.patience_start = progress.epoch;
  progress.plateau_start = progress.epoch;
  return std::exchange(progress.best_epoch, 0) > 0;
}

/// Whether a run has nothing left to do. One that stopped early goes on if it is given more.
bool has_no_more(const TrainJob& job, Progress& progress) {
  const TrainOptions& is = job.train;
  const TrainOptions& was = job.earlier ? job.earlier->train : is;
  const bool more = is.epochs > was.epochs || is.patience != was.patience ||
                    is.max_steps != was.max_steps || is.time != was.time;
  if (more && progress.stopped_early) {
    progress.stopped_early = false;
    progress.patience_start = progress.epoch;
  }
  return is_finished(is, progress);
}

/// What a run has stays where `auto` is asked for.
void keep_choices(TrainJob& job, const Callbacks& callbacks) {
  if (!job.earlier) return;
  const auto& [data, was] = *job.earlier;
  if (job.data.value_range.kind == ValueRange::Kind::automatic && data.value_range.is_fixed()) {
    job.data.value_range = data.value_range;
  }
  if (job.train.batch_size == 0) {
    job.train.batch_size = was.batch_size;
    callbacks.say(fmt::format("batch-size auto: the run keeps {}", was.batch_size));
  }
  if (job.train.lr == TrainOptions::kAutoRate) {
    job.train.lr = was.lr;
    callbacks.say("lr auto: the run keeps " + number_text(was.lr));
  }
  if (job.train.precision == Precision::automatic) job.train.precision = was.precision;
}

/// Checks all options before the first image is read, and completes the model's: its channels, as
/// far as they are known, and the size at which a dense latent works.
void check_job(TrainJob& job) {
  job.data.validate();
  job.train.validate();
  job.run.validate();
  require_utf8(job.data);
  ModelOptions& model = job.model;
  if (job.data.channels == 0) job.data.channels = model.channels;
  require_option(model.channels == 0 || model.channels == job.data.channels,
                 fmt::format("channels is {} of the data and {} of the model", job.data.channels,
                             model.channels));
  if (model.latent == 0) model.size = {};
  // The true number of channels is known only with the images; all else is checked now.
  if (model.channels == 0) model.channels = job.data.channels > 0 ? job.data.channels : 3;
  if (model.latent > 0) fix_size_of_dense_latent(model, job.data);
  model.validate();
  require_option(model.detector.empty() || has(job.train.corruptions, Effect::Kind::defects),
                 "--detector '" + widths_text(model.detector) +
                     "' learns from drawn defects; add them with --corrupt defects" +
                     (job.init.empty() && job.resume.empty() ? ", or use --detector none" : ""));
  if (const Size seen = one_size(job.data)) {
    plan_sizes(model.levels, seen, model.channels);
    require_option(!needs_window(job.train.loss) || std::min(seen.h, seen.w) >= kSimilarityWindow,
                   fmt::format("--loss '{}' needs images of at least {} pixels a side, but they "
                               "have {}; use a larger --size or --crop",
                               to_string(job.train.loss), kSimilarityWindow, to_string(seen)));
  }
  require_memory_for_weights(model, free_memory_bytes());
}

/// Throws OptionError where no validation image gives the value that `best` goes by.
void require_measure_of_best(const TrainJob& job, const ImageEntries& validation) {
  const BestBy best = job.train.best;
  require_option(!validation.empty() || best == BestBy::val_loss || best == BestBy::train_loss,
                 fmt::format("--best '{}': there are no validation images; give some with --val or "
                             "--val-split, or use --best train_loss",
                             to_string(best)));
  const auto has_window = [&](const ImageEntry& entry) {
    const Size size = size_in_batches(entry, job.data);
    return std::min(size.h, size.w) >= kSimilarityWindow;
  };
  require_option(best != BestBy::val_ssim || std::ranges::any_of(validation, has_window),
                 "--best 'val_ssim': no validation image has sides of at least 11 pixels, which "
                 "SSIM needs; use --best val_loss");
}

/// Weights to begin with; the job adopts the architecture that comes with them.
std::map<std::string, torch::Tensor> initial_weights(TrainJob& job) {
  if (job.init.empty()) return {};
  Checkpoint file = read_weights_file(find_checkpoint(job.init));
  adopt(job, file);
  return file.is_described ? tensors_to_use(file) : std::move(file.tensors);
}

/// One training job, from its options to the end of the run.
class Training {
public:
  Training(TrainJob job, const Callbacks& callbacks, RunObserver& observer, RunLog& log)
      : job_(std::move(job)), callbacks_(callbacks), observer_(observer), log_(log) {}

  TrainResult run() {
    limit_memory(job_.run.memory);
    for (std::string* path : {&job_.data.data, &job_.data.val}) {  // a run is resumed from anywhere
      if (!path->empty()) *path = absolute_path(*path).string();
    }
    const fs::path output = job_.resume.empty()
                                ? fs::path(job_.run.output)
                                : without_last_slash(absolute_path(job_.resume)).parent_path();
    job_.data.index = (output / ".index").string();
    if (!job_.resume.empty() && open_saved()) {
      use_threads_of_ranks(job_.run.threads, callbacks_);  // for a calibration after it
      return {saved_->folder.path(), saved_->checkpoint.info.progress, true, {}};
    }
    std::map<std::string, torch::Tensor> weights = initial_weights(job_);
    check_job(job_);
    ValueRange& range = job_.data.value_range;
    if (range.kind == ValueRange::Kind::unsaid) range.kind = ValueRange::Kind::full;
    use_machine();
    SplitImages images = split_images(
        job_.data, unfit_for_training(job_.model, job_.data, job_.train.loss), callbacks_);
    require_measure_of_best(job_, images.validation);
    job_.data.channels = job_.model.channels = images.channels;
    if (range.kind == ValueRange::Kind::automatic) {
      ImageDataset::Options as_measured = dataset_options();
      as_measured.size = {};
      // One in a batch, and the next.
      require_memory_to_decode(ImageDataset(images.training, as_measured), free_memory_bytes(),
                               /*beside=*/0, /*copies=*/2);
      range = measure_value_range(images.training, job_.data, callbacks_);
    }
    if (range.is_fixed()) callbacks_.say("value range " + to_string(range));
    skipped_ = std::move(images.skipped);
    keep_headers_ = std::move(images.keep_headers);
    Autoencoder net = build(std::exchange(weights, {}));
    ImageDataset training(std::move(images.training), dataset_options());
    ImageDataset validation(std::move(images.validation), dataset_options());
    training.on_bad_file = validation.on_bad_file = [this](const SkippedFile& bad) {
      callbacks_.warn(skipped_line(bad));
    };
    choose_batch(training);
    const std::string digest = image_digest(training, &validation);
    require_same_images_on_ranks(digest);
    describe(training, validation.size());
    if (saved_) {
      compare_images(digest, training, validation);
      compare_seed();
      if (best_begins_anew_) callbacks_.say("loss or images changed: 'best' starts anew");
    }
    const std::int64_t pixels_together = least_of_ranks(share_memory(training, validation));
    const Stopwatch choosing;
    look_into(training, validation);
    if (!saved_ && job_.model.linear == Linear::pca && job_.init.empty()) {
      begin_with_components(net, training, job_.train.seed, worker_count(job_.data.workers),
                            callbacks_);
    }
    choose_rate(net, training, pixels_together);
    Trainer trainer(net, training, job_.train, device_, worker_count(job_.data.workers));
    trainer.limit_pixels_together(pixels_together);
    trainer.add_time(choosing.seconds());
    return train(trainer, validation.size() > 0 ? &validation : nullptr);
  }

private:
  /// The run to go on with; true where it has nothing left to do.
  bool open_saved() {
    require_option(job_.init.empty(),
                   "--init and --resume exclude each other: a resumed run has its weights");
    RunFolder folder = leads() ? RunFolder::open(job_.resume) : RunFolder::watch(job_.resume);
    saved_ = SavedRun{folder, read_last_checkpoint(folder.path())};
    adopt(job_, saved_->checkpoint);
    job_.train.validate();
    Progress& progress = saved_->checkpoint.info.progress;
    keep_choices(job_, callbacks_);
    best_begins_anew_ = !is_comparable(job_) && forget_best(progress);
    if (progress.best_epoch > 0 && on_any_rank(!is_there(saved_->folder.best()))) {
      callbacks_.warn(in_quotes(saved_->folder.best()) + " is gone: 'best' starts anew");
      forget_best(progress);
    }
    only_ends_ = has_no_more(job_, progress);
    return only_ends_ &&
           (progress.epoch_images == 0 || saved_->folder.measured_step() == progress.step);
  }

  /// Headers say nothing of pixels: what is said of those comes before a folder is made.
  void look_into(ImageDataset& training, ImageDataset& validation) const {
    const DataOptions& data = job_.data;
    if (validation.size() > 0) {
      require_a_readable_image(validation, data.val.empty() ? data.data : data.val, "validation");
    }
    if (saved_) return;
    require_a_readable_image(training, data.data, "training");
    warn_of_little_contrast(training, callbacks_);
  }

  void use_machine() {
    device_ = choose_device(device_of_ranks(job_.run.device));
    require_option(ranks().size() == 1 || job_.train.time == 0,
                   "--time is for one process: clocks of several differ; use --epochs or "
                   "--max-steps");
    // A run keeps its number of threads, wherever it is resumed: sums depend on it.
    job_.run.threads = use_threads_of_ranks(job_.run.threads, callbacks_);
    const Precision precision =
        choose_precision(job_.train.precision, job_.model, device_, callbacks_);
    job_.train.precision = *parse_name<Precision>(said_by_first_rank(to_string(precision)));
    prepare_device(device_, job_.train.precision, job_.train.deterministic,
                   static_cast<bool>(one_size(job_.data)));
    callbacks_.say(fmt::format("device {} · {} compute threads · {} decoding threads · {}",
                               device_.str(), job_.run.threads, worker_count(job_.data.workers),
                               to_string(job_.train.precision)));
  }

  Autoencoder build(const std::map<std::string, torch::Tensor>& weights) const {
    torch::manual_seed(job_.train.seed);
    Autoencoder net(job_.model);
    if (!saved_ && !job_.init.empty()) load_weights(net, weights, in_quotes(job_.init));
    net->to(device_);
    return net;
  }

  ImageDataset::Options dataset_options() const {
    const DataOptions& data = job_.data;
    return {data.channels, data.size,       data.crop,       data.cache,
            data.skip_bad, data.max_pixels, data.value_range};
  }

  void choose_batch(const ImageDataset& training) {
    if (job_.train.batch_size != 0) return;
    // A GPU keeps half as much again; see Trainer.
    const std::int64_t memory =
        device_.is_cpu() ? memory_limit_bytes() : gpu_memory(device_) / 3 * 2;
    job_.train.batch_size = least_of_ranks(choose_batch_size(
        job_.model, job_.train, images_by_size(training), memory, !device_.is_cpu()));
    callbacks_.say(fmt::format("batch size {}, chosen by sizes and memory", job_.train.batch_size));
  }

  void choose_rate(const Autoencoder& net, ImageDataset& training, std::int64_t pixels_together) {
    if (job_.train.lr != TrainOptions::kAutoRate) return;
    Callbacks together = callbacks_;
    together.should_stop = [this] { return on_any_rank(callbacks_.stopped()); };
    rate_test_ = test_rates(net, training, job_.train, device_, worker_count(job_.data.workers),
                            pixels_together, together);
    if (together.stopped()) {
      throw Interrupted("stopped before the first step; nothing is saved");
    }
    const auto rate = rate_from(rate_test_, job_.train);
    job_.train.lr = rate.value_or(TrainOptions{}.lr);
    if (rate) {
      callbacks_.say(fmt::format("learning rate {}, chosen by a test of {} steps", job_.train.lr,
                                 rate_test_.size()));
    } else {
      callbacks_.warn(fmt::format(
          "--lr auto: the test of {} steps does not tell; the rate is {}, or choose one with --lr",
          rate_test_.size(), job_.train.lr));
    }
    job_.train.validate();  // that min-lr is not above it
  }

  /// What a user wants to see before the first step.
  void describe(const ImageDataset& training, std::int64_t validation_images) const {
    const std::map<Size, std::int64_t> sizes = images_by_size(training);
    const Size shown = most_common(sizes);
    callbacks_.say(
        fmt::format("images: {} for training, {} for validation, {} skipped · {} channel{}",
                    training.size(), validation_images, skipped_.size(), job_.data.channels,
                    job_.data.channels == 1 ? "" : "s"));
    callbacks_.say(fmt::format("sizes: {} different, {} images of {}", sizes.size(),
                               sizes.at(shown), to_string(shown)));
    std::istringstream table(level_table(job_.model, shown));
    for (std::string line; std::getline(table, line);) callbacks_.say(line);
    if (!job_.model.detector.empty()) callbacks_.say(detector_line(job_.model, shown));
    callbacks_.say(fmt::format("{} parameters", job_.model.parameter_count()));
    if (validation_images == 0) {
      callbacks_.say("no validation images: 'best' follows the training loss");
    }
  }

  /// Batches come first, with the image that is decoded beside them; of what they leave, up to half
  /// the free memory is for decoded images, those of training before those of validation. Returns
  /// how many pixels can go through the network together.
  std::int64_t share_memory(ImageDataset& training, ImageDataset& validation) const {
    const std::int64_t free = free_memory_bytes();
    const std::map<Size, std::int64_t> sizes = images_by_size(training);
    const auto bytes_of = [&](const TrainOptions& train) {
      return device_.is_cpu() ? bytes_for_batches(job_.model, train, sizes) : 0;
    };
    TrainOptions one_by_one = job_.train;
    one_by_one.batch_size = 1;
    const std::int64_t batches = bytes_of(job_.train), least = bytes_of(one_by_one);
    const std::int64_t decoded = std::max(require_memory_to_decode(training, free, least),
                                          require_memory_to_decode(validation, free, least));
    const std::int64_t room = std::min(free / 2, free - batches - decoded);
    std::int64_t kept = training.cache_within(room);
    kept += validation.cache_within(room - kept);
    if (free > 0 && kept >= free) {
      throw std::runtime_error(fmt::format(
          "--cache 'ram': the images take {:.1f} GB in memory, but {:.1f} GB are free{}; use "
          "--cache auto, or resize with --size",
          1e-9 * kept, 1e-9 * free, limit_text(kept + decoded + batches)));
    }
    if (!device_.is_cpu()) return std::numeric_limits<std::int64_t>::max();
    const std::int64_t held = kept + decoded;
    const std::int64_t left = free > 0 ? std::max<std::int64_t>(1, free - held) : 0;
    std::vector<Size> validated;
    for (const auto& [size, count] : images_by_size(validation)) validated.push_back(size);
    const std::int64_t together =
        require_memory_for_batches(job_.model, job_.train, sizes, left, held);
    const std::int64_t inferred = require_memory_for_inference(job_.model, validated, left, held);
    if (together < Trainer::kMaxPixelsTogether) {
      callbacks_.warn(fmt::format(
          "memory is short ({:.1f} GB are free): at most {:.1f} megapixels go through the network "
          "together, and batch normalisation sees only those as one batch",
          1e-9 * left, 1e-6 * together));
    }
    return inferred < kMaxBatchPixels ? std::min(together, inferred) : together;
  }

  /// The order of an epoch follows from the list of images: with another list, it begins anew.
  void compare_images(const std::string& digest, const ImageDataset& training,
                      const ImageDataset& validation) {
    CheckpointInfo& info = saved_->checkpoint.info;
    if (info.images.empty()) {
      callbacks_.say("the checkpoint, of version 0.1, does not say which images it was trained on");
    }
    if (info.images.empty() || info.images == digest) return;
    const ImageList before = saved_->folder.read_images();
    const bool is_known = before.digest() == info.images;
    const bool regroups = job_.earlier && job_.earlier->data.group_regex != job_.data.group_regex;
    const std::string what =
        fmt::format("the images of this run changed{}: {}", regroups ? " with --group-regex" : "",
                    is_known ? changes_between(before, {training, &validation})
                             : "their list of before, images.csv, is gone");
    if (job_.run.strict) {
      throw std::runtime_error(what + "; undo that, or give --strict=false to train on them");
    }
    callbacks_.warn(what + "; the epoch begins anew");
    best_begins_anew_ |= forget_best(info.progress);
    info.progress.begin_epoch();
  }

  /// The order of an epoch follows from the seed as well.
  void compare_seed() {
    Progress& progress = saved_->checkpoint.info.progress;
    const std::uint64_t was = job_.earlier ? job_.earlier->train.seed : job_.train.seed;
    if (was == job_.train.seed || progress.epoch_images == 0) return;
    callbacks_.warn(
        fmt::format("the seed was {} and is {}: the epoch begins anew", was, job_.train.seed));
    progress.begin_epoch();
  }

  TrainResult train(Trainer& trainer, ImageDataset* validation) {
    if (saved_) {
      trainer.restore(saved_->checkpoint, printable(saved_->folder.last().string()));
      saved_->checkpoint.tensors.clear();
    }
    callbacks_.begin_writing();
    RunFolder folder = saved_ ? saved_->folder : new_folder();
    Run run({trainer, folder, validation, skipped_, job_.run, config(), std::move(rate_test_),
             only_ends_, job_.after_step},
            callbacks_, observer_);
    if (leads()) {
      folder.require_in_place();
      log_.open(folder.log());
    }
    const std::string name = printable(folder.path().string());
    callbacks_.say((saved_ ? "resuming " : "run folder ") + name);
    if (job_.train.time > 0) {
      callbacks_.say(fmt::format(
          "training for {}: how many steps that is depends on the machine's speed, so the run does "
          "not repeat itself exactly",
          duration_text(job_.train.time)));
    }
    begin(run, folder);
    if (leads()) std::exchange(keep_headers_, nullptr)();
    const RunState state = run.train();
    for (const ImageDataset* images : {&trainer.dataset(), validation}) {
      const std::string line = images != nullptr ? images->clipped_line() : "";
      if (!line.empty()) callbacks_.warn((images == validation ? "validation: " : "") + line);
    }
    const Progress& progress = trainer.progress();
    if (state == RunState::interrupted) {
      throw Interrupted(fmt::format("stopped at step {}; go on with: convae train --resume {}",
                                    progress.step, shell_word(folder.path().string())));
    }
    if (state == RunState::stopped_early) {
      callbacks_.say(fmt::format("stopped early: no better {} for {} epochs",
                                 to_string(progress.best_by), job_.train.patience));
    }
    return {folder.path(), progress, false, run.skipped()};
  }

  /// The first rank makes it.
  RunFolder new_folder() const {
    const fs::path& output = job_.run.output;
    const std::string name = job_.run.name_for(job_.data.data);
    std::optional<RunFolder> made;
    if (leads()) made = RunFolder::create(output, name, job_.counts_up);
    const std::string path = said_by_first_rank(made ? made->path().string() : "");
    return made ? *made : RunFolder::watch(path);
  }

  std::string config() const {
    if (job_.config) return job_.config(job_);
    const std::string now = data_config({job_.data, job_.train.loss});
    if (!saved_) return now;
    // A program's text of all its options stays.
    const CheckpointInfo& before = saved_->checkpoint.info;
    return before.config == data_config(saved_data(before)) ? now : before.config;
  }

  /// Headers may be right where the pixels are not: a folder of such files leaves no run behind.
  void require_a_readable_image(ImageDataset& images, const std::string& folder,
                                const char* purpose) const {
    for (std::int64_t i = 0; i < images.size(); ++i) {
      if (images.load(i)) return;
    }
    const std::vector<SkippedFile> bad = images.bad_files();
    const std::string first =
        bad.empty() ? "" : ", such as " + in_quotes(bad[0].name) + ": " + printable(bad[0].reason);
    throw std::runtime_error(fmt::format("no usable image in {} for {} ({} skipped){}",
                                         in_quotes(folder), purpose,
                                         std::ssize(skipped_) + images.size(), first));
  }

  /// A new run that cannot even begin leaves nothing behind; one that is resumed has its last
  /// checkpoint and may find room later.
  void begin(Run& run, const RunFolder& folder) const {
    try {
      run.begin(job_.command);
    } catch (const std::runtime_error& error) {
      if (!saved_) {
        std::error_code ignored;
        if (folder.is_in_place()) fs::remove_all(folder.path(), ignored);
        throw;
      }
      for (const fs::path& written : {folder.path(), folder.last().parent_path()}) {
        if (::access(written.c_str(), W_OK) != 0) throw;  // unlike room, that does not change
      }
      callbacks_.warn(std::string(error.what()) + "; the run goes on");
    }
    if (!saved_ && leads()) folder.make_latest();
  }

  TrainJob job_;
  const Callbacks& callbacks_;
  RunObserver& observer_;
  RunLog& log_;
  std::optional<SavedRun> saved_;  // where a run is resumed
  torch::Device device_ = torch::kCPU;
  std::vector<SkippedFile> skipped_;  // before any image was decoded
  std::function<void()> keep_headers_;
  std::vector<RatePoint> rate_test_;
  bool only_ends_ = false;         // see Run::Parts
  bool best_begins_anew_ = false;  // where a run is resumed with another loss or images
};

}  // namespace

TrainResult train(TrainJob job, const Callbacks& callbacks, RunObserver& observer) {
  const c10::InferenceMode with_gradients(false);  // whatever the caller's mode
  RunLog log;
  const Callbacks noted = log.noting(callbacks);
  try {
    return Training(std::move(job), noted, observer, log).run();
  } catch (const Interrupted& stop) {
    log.note("warning", stop.what());
    throw;
  } catch (const std::exception& error) {
    log.note("error", first_line(error.what()));
    throw;
  }
}

}  // namespace convae
