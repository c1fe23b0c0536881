#include "convae/app/train_setup.h"

#include "convae/app/inference.h"
#include "convae/app/options/config_file.h"
#include "convae/app/options/option_table.h"
#include "convae/app/output/logging.h"
#include "convae/core/files.h"

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <set>

namespace convae::app {
namespace fs = std::filesystem;

Options saved_options(const CheckpointInfo& info, const std::string& source) {
  Options saved;
  try {
    read_config(info.config, "its configuration", saved);
    saved.model.levels = parse_levels(saved.levels.list, saved.levels.defaults);
  } catch (const UsageError& error) {
    throw CheckpointError(in_quotes(source) + ": " + error.what());
  }
  return saved;
}

namespace {

/// Runs are resumed from anywhere.
void make_absolute(DataOptions& options) {
  for (std::string* path : {&options.data, &options.val}) {
    if (!path->empty()) *path = fs::absolute(*path).lexically_normal().string();
  }
}

/// What was given for the model, as flags or in a file, and contradicts the architecture of a
/// checkpoint is refused by name. `line` was read over the options the checkpoint came from.
void refuse_contradictions(const CommandLine& line, const ModelOptions& trained,
                           const std::string& source) {
  Options has;
  has.model = trained;
  has.levels = {to_string(trained.levels), {}};
  has.data.channels = trained.channels;
  const bool other_levels = line.options.model.levels != trained.levels;
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

/// The architecture of a checkpoint, in the words (levels, kernel, …) of its run.
void adopt(Options& options, const ModelOptions& model, const LevelOptions& as_written) {
  options.model = model;
  options.levels = as_written;
  options.data.channels = model.channels;
  const bool has_size = options.data.size.h > 0 || options.data.crop.h > 0;
  if (model.latent > 0 && !has_size) options.data.size = {model.size.h, model.size.w};
}

/// Weights to begin with, and the architecture where the file tells it.
void start_from(TrainSetup& setup, const std::vector<std::string>& words) {
  Options& options = setup.options;
  const fs::path path = find_checkpoint(options.call.init);
  Safetensors contents = read_safetensors(path);
  if (!contents.metadata.contains(kMetadataKey)) {
    setup.initial = std::move(contents.tensors);
    return;
  }
  const Checkpoint checkpoint = read_checkpoint(path);
  setup.initial = tensors_to_use(checkpoint);
  // A checkpoint knows its architecture; only what contradicts it must be said.
  const CheckpointInfo& info = checkpoint.info;
  Options base;
  if (!info.config.empty()) {
    base = saved_options(info, options.call.init);
  } else {
    base.levels = {to_string(info.model.levels), {}};
  }
  base.model = info.model;
  const CommandLine over_base = read_command_line(words, base);
  refuse_contradictions(over_base, info.model, in_quotes(options.call.init));
  adopt(options, info.model, over_base.options.levels);
}

/// Values for other images, or of other measures, cannot be compared with the best so far.
void forget_best_of_other_measure(TrainSetup& setup, const Options& saved) {
  const DataOptions& was = saved.data;
  const DataOptions& is = setup.options.data;
  const TrainOptions& train = setup.options.train;
  const bool same_images = is.data == was.data && is.val == was.val &&
                           is.val_split == was.val_split && is.size == was.size &&
                           is.crop == was.crop && train.corruptions == saved.train.corruptions;
  const bool same_measure = train.loss == saved.train.loss && train.beta == saved.train.beta &&
                            train.best == saved.train.best;
  if (same_images && same_measure) return;
  Progress& progress = setup.checkpoint->info.progress;
  if (progress.best_epoch > 0) spdlog::info("loss or images changed: 'best' starts anew");
  progress.best_epoch = 0;
  progress.patience_start = progress.epoch;
  progress.plateau_start = progress.epoch;
  progress.stopped_early = false;
}

void resume(TrainSetup& setup, const std::vector<std::string>& words) {
  if (!setup.options.call.init.empty()) {
    throw UsageError("--init and --resume exclude each other: a resumed run has its weights");
  }
  const fs::path run_path = setup.options.call.resume;
  std::error_code error;
  if (!fs::exists(run_path / "weights" / "last.safetensors", error)) {
    throw std::runtime_error("--resume '" + printable(run_path.string()) +
                             "': there is no weights/last.safetensors in it");
  }
  setup.folder = RunFolder::open(run_path);
  setup.checkpoint = read_checkpoint(setup.folder->last());
  const CheckpointInfo& info = setup.checkpoint->info;
  // The run's options, and over them what was given now.
  const Options saved = saved_options(info, setup.folder->last().string());
  setup.saved_train = saved.train;
  const CommandLine line = read_command_line(words, saved);
  refuse_contradictions(line, info.model, "the run " + printable(run_path.string()));
  setup.options = line.options;
  start_logging(setup.options.run);
  adopt(setup.options, info.model, line.options.levels);
  make_absolute(setup.options.data);
  forget_best_of_other_measure(setup, saved);
  // A new number of epochs is the new total, also of a run that max-steps had ended.
  if (line.has("epochs") && !line.has("max-steps")) setup.options.train.max_steps = 0;
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

/// The size every image reaches the network at; {0, 0}: they have several.
Size common_size(const DataOptions& data) {
  const Size seen = data.crop.h > 0 ? data.crop : data.size;
  return {seen.h, seen.w};
}

void fix_size_of_dense_latent(ModelOptions& model, const DataOptions& data) {
  const Size seen = common_size(data);
  if (seen.h == 0) {
    throw UsageError("--latent '" + std::to_string(model.latent) +
                     "': a dense latent works at one input size only, but size is native; set "
                     "--size N or HxW, or use --latent-channels, which takes every size");
  }
  const Size trained = model.size;
  model.size = seen;
  if (trained.h > 0 && trained != model.size) {
    throw UsageError("--size '" + to_string(model.size) + "' contradicts the checkpoint, whose " +
                     "dense latent works at " + to_string(trained) +
                     " only; leave --size and --crop out");
  }
}

/// Weights, gradients and two moments, four bytes each.
void require_memory_for_weights(const ModelOptions& model) {
  const std::int64_t free_bytes = free_memory_bytes();
  const std::int64_t parameters = model.parameter_count();
  if (free_bytes == 0 || parameters <= free_bytes / 16) return;
  throw std::runtime_error(fmt::format(
      "--levels '{}': {} parameters need {:.1f} GB for training, but {:.1f} GB are free; use "
      "fewer channels",
      to_string(model.levels), parameters, static_cast<double>(parameters) * 16e-9,
      static_cast<double>(free_bytes) / 1e9));
}

}  // namespace

bool TrainSetup::already_finished() {
  options.train.validate();
  Progress& progress = checkpoint->info.progress;
  const TrainOptions& train = options.train;
  const bool more = train.epochs > saved_train.epochs || train.patience != saved_train.patience ||
                    train.max_steps != saved_train.max_steps;
  if (more && progress.stopped_early) {
    progress.stopped_early = false;
    progress.patience_start = progress.epoch;
  }
  const bool steps_done = train.max_steps > 0 && progress.step >= train.max_steps;
  return progress.epoch >= train.epochs || progress.stopped_early || steps_done;
}

std::string TrainSetup::run_name() const {
  const std::string& given = options.run.name;
  if (!given.empty()) {
    const fs::path name(given);
    if (name.has_parent_path() || name == "." || name == ".." || name == "latest") {
      throw UsageError("--name '" + printable(given) +
                       "': expected a plain name without '/', other than 'latest', which leads to "
                       "the newest run; -o names the folder");
    }
    return given;
  }
  const fs::path data(options.data.data);
  const std::string name = (data.has_filename() ? data : data.parent_path()).filename().string();
  return name.empty() || name == "latest" ? "run" : name;
}

TrainSetup set_up_training(const CommandLine& line, const std::vector<std::string>& words) {
  TrainSetup setup;
  setup.options = line.options;
  if (!line.options.call.resume.empty()) {
    resume(setup, words);
    return setup;
  }
  require_given(setup.options.data.data, "data", "--data photos");
  make_absolute(setup.options.data);
  if (!setup.options.call.init.empty()) start_from(setup, words);
  return setup;
}

void check_options(TrainSetup& setup) {
  Options& options = setup.options;
  options.data.validate();
  options.train.validate();
  require_utf8(options.data.data, "data");
  require_utf8(options.data.val, "val");
  if (!setup.resumed()) {
    require_given(options.run.output, "output", "-o runs");
    setup.run_name();
  }
  ModelOptions& model = options.model;
  // The decoder's channels are known only once the images are; everything else is checked now.
  if (model.channels == 0) model.channels = options.data.channels > 0 ? options.data.channels : 3;
  if (model.latent > 0) fix_size_of_dense_latent(model, options.data);
  model.validate();
  const Size seen = common_size(options.data);
  if (seen.h > 0) plan_sizes(model.levels, seen, model.channels);
  require_memory_for_weights(model);
}

}  // namespace convae::app
