#include "convae/evaluation/evaluate.h"

#include "convae/app/commands/commands.h"
#include "convae/app/output/logging.h"
#include "convae/app/output/tables.h"

#include <cstdio>

namespace convae::app {

int run_evaluate(const CommandLine& line) {
  const Options& options = line.options;
  EvaluateOptions job{.train_data = options.call.train_data,
                      .output = options.run.output,
                      .overwrite = options.call.overwrite,
                      .corruptions = options.train.corruptions,
                      .seed = options.train.seed};
  job.images.data = folder_options(options).data;
  const auto result = evaluate(open_model(options), job, program_callbacks(options.run));
  const std::string text = options.call.json ? to_json(result) + "\n" : evaluation_table(result);
  std::fputs(text.c_str(), stdout);
  return kDone;
}

}  // namespace convae::app
