#include "convae/app/options/resume.h"

#include "convae/app/options/config_file.h"
#include "convae/app/options/option_table.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/folder.h"
#include "convae/training/checkpoint.h"
#include "convae/training/collective.h"
#include "convae/training/run_folder.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

/// What was given for the model, as flags or in a file, and contradicts the architecture of a
/// checkpoint is refused by name. `line` was read over the options the checkpoint came from.
void refuse_contradictions(const CommandLine& line, const ModelOptions& trained,
                           const std::string& source, const char* way_out) {
  Options has;
  has.model = trained;
  has.levels = {to_string(trained.levels), {}};
  has.data.channels = trained.channels;
  const bool other_levels = line.options.model.levels != trained.levels;
  const auto check = [&](const OptionSpec& option, const OptionSpec& shown, bool differs) {
    if (!line.has(option.name) || !differs) return;
    const std::string given = option.get(line.options), value = shown.get(has);
    throw OptionError(fmt::format("--{} {} contradicts {}, which has {} {}; leave it out, or {}",
                                  option.name, in_quotes(given.empty() ? "none" : given), source,
                                  shown.name, value.empty() ? "none" : value, way_out));
  };
  const std::set<std::string> of_levels = {"levels",  "kernel",   "stride",
                                           "padding", "dilation", "residual-blocks"};
  for (const OptionSpec* option : options_of(Group::model)) {
    if (of_levels.contains(option->name)) {
      check(*option, *find_option(Group::model, "levels"), other_levels);
    } else {
      check(*option, *option, option->get(line.options) != option->get(has));
    }
  }
  const OptionSpec& channels = *find_option(Group::data, "channels");
  check(channels, channels,
        line.options.data.channels > 0 && line.options.data.channels != trained.channels);
}

/// The options of the run that wrote a checkpoint; nullopt where it keeps none, or no more than
/// what the library needs to find its images.
std::optional<Options> saved_options(const CheckpointInfo& info, const std::string& source) {
  Options saved;
  try {
    if (!read_config(info.config, "its configuration", saved).contains("epochs")) return {};
    saved.model.levels = parse_levels(saved.levels.list, saved.levels.defaults);
  } catch (const OptionError& error) {
    throw CheckpointError(in_quotes(source) + ": " + error.what());
  }
  return saved;
}

/// The run that --resume names; for `auto`, OUTPUT/NAME, or none where that does not exist or was
/// killed while it began. The first rank looks: it is also the one that makes the folder.
std::string run_to_resume(const CommandLine& line) {
  const Options& options = line.options;
  if (options.call.resume != "auto") return options.call.resume;
  options.run.validate();
  fs::path data = options.data.data;
  if (!data.empty()) data = absolute_path(data);
  const fs::path run = fs::path(options.run.output) / options.run.name_for(data.string());
  const bool is_there = leads() && fs::exists(run) && !RunFolder::remove_unbegun(run);
  if (is_there && !fs::exists(run / "weights" / "last.safetensors")) {
    throw std::runtime_error(
        "--resume auto: " + in_quotes(run) +
        " exists but holds no weights/last.safetensors; remove it, or give the "
        "run another --name");
  }
  return said_by_first_rank(is_there ? run.string() : "");
}

TrainingOptions options_of_resume(const CommandLine& line, const std::string& run) {
  const CheckpointInfo info = read_last_checkpoint(run).info;
  const auto saved = saved_options(info, run + "/weights/last.safetensors");
  if (!saved) {
    throw std::runtime_error("the run " + in_quotes(run) +
                             " does not keep how it was trained, by another program than this one; "
                             "go on with it there, or begin with --init " +
                             shell_word(run));
  }
  const CommandLine over_saved = read_command_line(line.words, *saved);
  refuse_contradictions(over_saved, info.model, "the run " + printable(run), "train a new run");
  Options options = over_saved.options;
  options.call.resume = run;
  if (line.options.call.resume == "auto") options.call.init.clear();  // where the run began
  // A new number of epochs is the new total, also of a run that max-steps had ended.
  if (line.has("epochs") && !line.has("max-steps")) options.train.max_steps = 0;
  // So is one of steps or epochs in a file without a time, where the run had a time.
  const bool has_total = line.has("epochs") || line.has("max-steps");
  if (has_total && line.options.train.time <= 0) options.train.time = 0;
  return {options, TrainJob::Earlier{saved->data, saved->train}};
}

/// The checkpoint of --init knows its architecture; only what contradicts it must be said.
void take_architecture(Options& options, const CommandLine& line) {
  const std::string& init = options.call.init;
  const Checkpoint checkpoint = read_weights_file(find_checkpoint(init));
  if (!checkpoint.is_described) return;
  const CheckpointInfo& info = checkpoint.info;
  Options base;
  base.levels = {to_string(info.model.levels), {}};
  if (const auto saved = saved_options(info, init)) base = *saved;
  base.model = info.model;
  const CommandLine over_base = read_command_line(line.words, base);
  refuse_contradictions(over_base, info.model, in_quotes(init), "begin without --init");
  options.levels = over_base.options.levels;
  options.model = info.model;
}

/// The options of the run or checkpoint that --checkpoint names, with the command line's over them.
Options options_of_checkpoint(const CommandLine& line) {
  const std::string& source = line.options.call.checkpoint;
  const CheckpointInfo info = read_checkpoint(find_checkpoint(source)).info;
  const auto saved = saved_options(info, source);
  require_option(saved.has_value(), "--checkpoint " + in_quotes(source) +
                                        ": it does not keep how it was trained; name a recipe "
                                        "with --config FILE");
  return read_command_line(line.words, *saved).options;
}

}  // namespace

TrainingOptions recipe_options(const CommandLine& line) {
  const CallOptions& call = line.options.call;
  require_option(call.config.empty() != call.checkpoint.empty(),
                 "--folds needs a recipe: --config FILE, or --checkpoint RUN for that of a run");
  Options options = call.config.empty() ? options_of_checkpoint(line) : line.options;
  options.run.name.clear();
  options.data.val.clear();
  options.data.images.clear();
  return {options, {}};
}

TrainingOptions training_options(const CommandLine& line) {
  const std::string run = run_to_resume(line);
  TrainingOptions given{line.options, {}};
  if (!run.empty()) given = options_of_resume(line, run);
  require_option(!given.options.data.data.empty(), "--data is needed, such as --data photos");
  if (!run.empty()) return given;
  if (!line.options.call.init.empty()) take_architecture(given.options, line);
  given.options.call.resume.clear();  // auto
  return given;
}

void warn_of_options_without_effect(const CommandLine& line, const TrainingOptions& given,
                                    const Callbacks& callbacks) {
  const std::set<std::string> totals = {"epochs", "max-steps", "time", "patience"};
  const std::set<std::string> of_images = {"data",        "val",     "val-split",
                                           "group-regex", "include", "exclude"};
  Options was;
  was.data = given.earlier->data;
  was.train = given.earlier->train;
  for (const Group group : {Group::data, Group::train}) {
    for (const OptionSpec* option : options_of(group)) {
      const std::string& name = option->name;
      const std::string value = option->get(given.options), before = option->get(was);
      const bool is_automatic = value == "auto" || (name == "channels" && value == "0");
      if (!line.has(name) || totals.contains(name) || is_automatic) continue;
      const bool is_folder = name == "data" || name == "val";
      if (is_folder ? is_same_folder(value, before) : value == before) continue;
      if (given.options.run.strict && of_images.contains(name)) {
        throw std::runtime_error(
            fmt::format("--{} is not what the finished run was trained with; leave it out, or give "
                        "--strict=false",
                        name));
      }
      callbacks.warn(fmt::format("--{} has no effect: the run is finished", name));
    }
  }
}

}  // namespace convae::app
