#include "convae/training/train.h"

#include "convae/app/commands/commands.h"
#include "convae/app/options/config_file.h"
#include "convae/app/options/resume.h"
#include "convae/app/output/logging.h"
#include "convae/core/errors.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/inspection/saved_inspector.h"
#include "convae/training/collective.h"
#include "convae/training/run_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <utility>

namespace convae::app {
namespace {

/// The measure that makes the best checkpoint, as the result names it.
const char* name_of_best(BestBy measure) {
  const bool is_loss = measure == BestBy::val_loss || measure == BestBy::train_loss;
  return is_loss ? "loss" : to_string(measure);
}

/// A larger total of what ended the run, with which it goes on.
std::string more_than(const TrainingOptions& given, const Progress& p) {
  const TrainOptions& options = given.options.train;
  if (options.time > 0) {
    return "--time " + duration_text(std::ceil(2 * std::max(options.time, p.seconds)));
  }
  const bool by_steps = options.max_steps > 0 && p.step >= options.max_steps &&
                        p.epoch < options.epochs && !p.stopped_early;
  if (by_steps) return fmt::format("--max-steps {}", 2 * p.step);
  const std::int64_t had = p.stopped_early ? given.earlier->train.epochs : 0;
  return fmt::format("--epochs {}", std::max(p.epoch, had) + 10);
}

void print(const TrainResult& result, const TrainingOptions& given) {
  const Progress& p = result.progress;
  const std::string folder = printable(result.folder.string());
  // The last one may have been cut short.
  const std::int64_t epochs = p.epoch + (p.epoch_images > 0 ? 1 : 0);
  if (result.was_finished) {
    fmt::print(
        "{} is finished ({} epochs, {} steps{}); nothing was changed. Give a larger total, such as "
        "{}, to go on.\n",
        folder, epochs, p.step, p.stopped_early ? ", stopped early" : "", more_than(given, p));
    return;
  }
  const std::string best = p.best_epoch == 0
                               ? fmt::format("no finite {}", name_of_best(p.best_by))
                               : fmt::format("best {} {:.6f} in epoch {}", name_of_best(p.best_by),
                                             p.best_value, p.best_epoch);
  fmt::print("{}: {} epochs, {} steps, {}, {} images skipped{}\n", folder, epochs, p.step, best,
             result.skipped.size(),
             p.skipped_steps > 0 ? fmt::format(", {} steps not finite", p.skipped_steps) : "");
}

/// Whether the run keeps what score needs, of these weights.
bool is_calibrated(const Model& model) {
  try {
    return kept_inspector(model).has_value();
  } catch (const std::runtime_error&) {
    return false;  // damaged
  }
}

/// A detector is there for inspection: from now on score needs no training image. What was
/// calibrated for the same weights stays. Ranks share the work. What goes wrong takes nothing from
/// the training.
void calibrate_after_training(const TrainResult& result, const Options& given,
                              const Callbacks& program) {
  if (given.model.detector.empty()) return;
  RunLog log;
  if (leads()) log.open(result.folder / "train.log");
  const Callbacks callbacks = log.noting(program);
  try {
    Model model = load(result.folder, device_of_ranks(given.run.device));
    if (on_any_rank(is_calibrated(model))) return;
    CalibrateOptions options = as_calibrated_before(model, callbacks);
    DataOptions& data = options.good.data;
    data.workers = given.data.workers;
    // Training on crops reads larger images in part: its limit may be too low for whole ones.
    data.max_pixels = std::max(data.max_pixels, given.data.max_pixels);
    const Inspector inspector = calibrate_run(model, options, callbacks);
    callbacks.say(fmt::format("calibrated on {} good images: {}", inspector.calibration().images(),
                              printable(inspector_file(model.run()).string())));
  } catch (const Interrupted&) {
    const std::string unlearnt =
        "the training is finished and saved, but score has not learnt from it yet; ";
    if (is_there(inspector_file(result.folder))) {
      throw Interrupted(unlearnt + "the next score does that, as the run was calibrated before");
    }
    throw Interrupted(unlearnt + "convae calibrate --checkpoint " +
                      shell_word(result.folder.string()) + " does that");
  } catch (const std::exception& error) {
    // All ranks find alike that images are missing. One that fails alone must end the others.
    if (ranks().size() > 1 && dynamic_cast<const std::runtime_error*>(&error) == nullptr) throw;
    callbacks.warn("not calibrated for score: " + first_line(error.what()));
  }
}

}  // namespace

TrainJob train_job(const TrainingOptions& given, const std::vector<std::string>& words) {
  const Options& options = given.options;
  TrainJob job{.data = options.data,
               .model = options.model,
               .train = options.train,
               .run = options.run,
               .init = options.call.init,
               .resume = options.call.resume,
               .earlier = given.earlier,
               .config = {},
               .command = "convae"};
  for (const std::string& word : words) job.command += " " + shell_word(word);
  job.config = [options](const TrainJob& complete) {
    Options all = options;
    all.data = complete.data;
    all.model = complete.model;
    all.train = complete.train;
    static_cast<convae::RunOptions&>(all.run) = complete.run;
    return write_config(all);
  };
  return job;
}

int run_train(const CommandLine& line) {
  std::signal(SIGPIPE, SIG_IGN);  // a run of hours outlives the reader of its log
  const TrainingOptions given = training_options(line);
  start_logging(given.options.run);  // a resumed run stays as quiet as it was
  const Callbacks callbacks = program_callbacks(given.options.run);
  const std::string& resumed = line.options.call.resume;
  for (const char* place : {"output", "name"}) {
    if (resumed.empty() || resumed == "auto" || !line.has(place)) continue;
    callbacks.warn(fmt::format("--{} has no effect: a resumed run goes on where it is", place));
  }
  Callbacks in_order = callbacks;
  in_order.before_writing = stop_in_order;  // ranks stop together, after a step
  TrainJob job = train_job(given, line.words);
  job.counts_up = resumed != "auto";
  const TrainResult result = train(std::move(job), in_order);
  if (result.was_finished) warn_of_options_without_effect(line, given, callbacks);
  if (leads()) print(result, given);
  std::fflush(stdout);                     // a calibration may follow, and take a while
  if (ranks().size() > 1) stop_at_once();  // from here on they wait for each other
  ranks().barrier();                       // the first has written everything
  calibrate_after_training(result, given.options, callbacks);
  return kDone;
}

}  // namespace convae::app
