#include "convae/app/commands/commands.h"
#include "convae/app/options/option_table.h"
#include "convae/app/output/logging.h"
#include "convae/app/output/tables.h"
#include "convae/core/text.h"
#include "convae/inspection/folds.h"

#include <fmt/format.h>

#include <set>

namespace convae::app {
namespace {

/// What the runs of a recipe depend on; where data come from is compared apart.
std::vector<std::pair<std::string, std::string>> settings_of(const Options& options) {
  const std::set<std::string> without_effect = {"data", "images", "cache", "workers"};
  std::vector<std::pair<std::string, std::string>> settings;
  for (const Group group : {Group::data, Group::model, Group::train}) {
    for (const OptionSpec* option : options_of(group)) {
      if (!without_effect.contains(option->name)) {
        settings.emplace_back(option->name, option->get(options));
      }
    }
  }
  return settings;
}

void refuse_other_jobs(const CommandLine& line) {
  for (const char* option : {"good", "watch", "stdin", "fail-on-anomaly"}) {
    require_option(!line.has(option),
                   fmt::format("--{} and --folds exclude each other: leave one out", option));
  }
}

}  // namespace

int run_score_folds(const CommandLine& line) {
  refuse_other_jobs(line);
  require_given(line.options.run.output, "output", "-o folds");
  const TrainingOptions recipe = recipe_options(line);
  const Options& options = recipe.options;
  require_given(options.data.data, "data", "--data parts");
  FoldsOptions job{.recipe = train_job(recipe, line.words),
                   .folds = options.call.folds,
                   .scoring = {.images = {options.data},
                               .output = options.run.output,
                               .overwrite = options.call.overwrite,
                               .report = options.run.report,
                               // Numbers are what folds are for; pictures of each are many.
                               .heat_maps = line.has("heat-maps") && options.call.heat_maps,
                               .fpr = options.call.fpr,
                               .seed = options.train.seed},
                   .settings = settings_of(options),
                   .on_fold = {}};
  job.scoring.images.tile = options.call.tile;
  if (!options.call.json) {
    job.on_fold = [](std::int64_t fold, const ScoreResult& result) {
      fmt::print("{}\n", fold_line(fold, result));
      flush_results();
    };
  }
  const FoldsResult result = score_folds(std::move(job), program_callbacks(line.options.run));
  fmt::print("{}\n", options.call.json
                         ? to_json(result)
                         : folds_table(result) + "results in " + printable(options.run.output));
  return kDone;
}

}  // namespace convae::app
