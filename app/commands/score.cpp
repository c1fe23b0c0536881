#include "convae/app/commands/commands.h"
#include "convae/app/output/logging.h"
#include "convae/app/output/tables.h"
#include "convae/core/text.h"
#include "convae/inspection/inspector.h"
#include "convae/inspection/live.h"
#include "convae/inspection/saved_inspector.h"
#include "convae/training/collective.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <csignal>

namespace convae::app {

namespace {

CalibrateOptions calibrate_options(const CommandLine& line) {
  const Options& options = line.options;
  CalibrateOptions calibration{.good = {options.data, options.train.batch_size}};
  calibration.good.data.data = options.call.good;
  if (line.has("size")) calibration.size = options.data.size;
  if (line.has("group-regex")) calibration.group_regex = options.data.group_regex;
  return calibration;
}

/// --include and --exclude are of the images to score.
CalibrateOptions options_of_score(const CommandLine& line) {
  CalibrateOptions calibration = calibrate_options(line);
  calibration.good.data.include.clear();
  calibration.good.data.exclude.clear();
  return calibration;
}

/// For what several ranks do not share.
void require_one_rank(const char* flag) {
  require_option(ranks().size() == 1, std::string(flag) +
                                          " works in one process: start it without " +
                                          launcher_name(find_launch().value_or(Launch{}).kind));
}

/// What is asked for and a line for each picture cannot give.
void refuse_without_effect(const CommandLine& line, const char* flag) {
  const Options& options = line.options;
  const std::pair<const char*, bool> asked[] = {{"output", true},
                                                {"heat-maps", options.call.heat_maps},
                                                {"report", options.run.report},
                                                {"overwrite", options.call.overwrite},
                                                {"skip-bad", !options.data.skip_bad},
                                                {"seed", true},
                                                {"include", options.call.from_stdin},
                                                {"exclude", options.call.from_stdin}};
  for (const auto& [name, has_no_effect] : asked) {
    require_option(!line.has(name) || !has_no_effect,
                   fmt::format("--{} with {}: a line comes for each picture, on the standard "
                               "output, and nothing else; leave it out",
                               name, flag));
  }
}

int score_live(const CommandLine& line) {
  const Options& options = line.options;
  const char* flag = options.call.watch ? "--watch" : "--stdin";
  require_one_rank(flag);
  require_option(!options.call.watch || !options.call.from_stdin,
                 "--watch and --stdin exclude each other: pictures come from one of them");
  if (options.call.watch) require_given(options.data.data, "data", "--data camera");
  require_option(!line.has("tile"), std::string("--tile with ") + flag +
                                        ": these pictures are scored as a whole; leave it out");
  require_option(options.call.watch || options.data.data.empty(),
                 "--data with --stdin: paths come on the standard input; leave it out");
  refuse_without_effect(line, flag);
  require_false_alarms(options.call.fpr);
  FolderOptions{options.data}.validate();
  if (options.call.watch) require_watchable(options.data);
  const Callbacks callbacks = program_callbacks(options.run);
  const Inspector inspector = inspector_for(open_model(options), options_of_score(line), callbacks);
  warn_of_rate(inspector, options.call.fpr, callbacks);
  const LiveOptions live{
      .data = options.data, .fpr = options.call.fpr, .on_line = [](const std::string& text) {
        fmt::print("{}\n", text);
        flush_results();
      }};
  callbacks.begin_writing();
  const std::int64_t anomalies = options.call.watch
                                     ? score_watched(inspector, live, callbacks)
                                     : score_paths(inspector, STDIN_FILENO, live, callbacks);
  // SIGTERM is how a service ends; Ctrl-C breaks off.
  if (stop_signal() != 0 && stop_signal() != SIGTERM) return 128 + stop_signal();
  return options.call.fail_on_anomaly && anomalies > 0 ? kAnomaly : kDone;
}

}  // namespace

int run_calibrate(const CommandLine& line) {
  const Options& options = line.options;
  require_false_alarms(options.call.fpr);
  for (const char* filter : {"include", "exclude"}) {
    require_option(
        !line.has(filter) || !options.call.good.empty(),
        fmt::format("--{} without --good: the images of the run are those it was trained "
                    "with; leave it out, or name a folder of good ones",
                    filter));
  }
  const Callbacks callbacks = program_callbacks(options.run);
  const Model model = open_model(options);
  const Inspector inspector = calibrate_run(model, calibrate_options(line), callbacks);
  warn_of_rate(inspector, options.call.fpr, callbacks);
  const Calibration& good = inspector.calibration();
  const std::string file = inspector_file(model.run()).string();
  const double threshold = inspector.threshold(options.call.fpr);
  if (options.call.json) {
    const nlohmann::ordered_json json = {
        {"file", json_text(file)}, {"images", good.images()},
        {"groups", good.groups},   {"training_images", good.training_images},
        {"fpr", options.call.fpr}, {"threshold", threshold}};
    fmt::print("{}\n", json.dump());
  } else {
    fmt::print("calibrated on {} good images: anomalous above {:.4g} (--fpr {})\nkept in {}\n",
               good.images(), threshold, number_text(options.call.fpr), printable(file));
  }
  return kDone;
}

int run_score(const CommandLine& line) {
  const Options& options = line.options;
  if (line.has("folds")) {
    require_one_rank("--folds");
    return run_score_folds(line);
  }
  require_option(options.call.config.empty(),
                 "--config " + in_quotes(options.call.config) +
                     ": a recipe is for --folds; without it score uses --checkpoint alone");
  if (options.call.watch || options.call.from_stdin) return score_live(line);
  require_given(options.run.output, "output", "-o scores");
  const ScoreOptions scoring{.images = folder_options(options),
                             .output = options.run.output,
                             .overwrite = options.call.overwrite,
                             .report = options.run.report,
                             .heat_maps = options.call.heat_maps,
                             .fpr = options.call.fpr,
                             .seed = options.train.seed};
  scoring.validate();
  const Callbacks callbacks = program_callbacks(options.run);
  const auto result = score_folder(open_model(options), options_of_score(line), scoring, callbacks);
  fmt::print("{}\n", options.call.json
                         ? to_json(result)
                         : score_table(result) + "results in " + printable(options.run.output));
  for (const std::string& warning : result.warnings) callbacks.warn(warning);
  return options.call.fail_on_anomaly && result.anomalous_images > 0 ? kAnomaly : kDone;
}

}  // namespace convae::app
