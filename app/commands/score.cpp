#include "convae/app/commands/commands.h"
#include "convae/app/output/logging.h"
#include "convae/app/output/tables.h"
#include "convae/core/text.h"
#include "convae/inspection/inspector.h"

#include <fmt/format.h>

namespace convae::app {

int run_score(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.run.output, "output", "-o scores");
  const ScoreOptions scoring{.images = folder_options(options),
                             .output = options.run.output,
                             .overwrite = options.call.overwrite,
                             .heat_maps = options.call.heat_maps,
                             .fpr = options.call.fpr,
                             .seed = options.train.seed};
  scoring.validate();
  CalibrateOptions calibration{.good = scoring.images};
  calibration.good.data.data = options.call.good;
  if (line.has("size")) calibration.size = options.data.size;
  if (line.has("group-regex")) calibration.group_regex = options.data.group_regex;
  const Callbacks callbacks = program_callbacks(options.run);
  const auto result = score_folder(open_model(options), calibration, scoring, callbacks);
  if (options.call.json) {
    fmt::print("{}\n", to_json(result));
  } else {
    fmt::print("{}results in {}\n", score_table(result), printable(options.run.output));
  }
  for (const std::string& warning : result.warnings) callbacks.warn(warning);
  return options.call.fail_on_anomaly && result.anomalous_images > 0 ? kAnomaly : kDone;
}

}  // namespace convae::app
