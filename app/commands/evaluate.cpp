#include "convae/evaluation/evaluate.h"

#include "convae/app/commands/commands.h"
#include "convae/app/commands/needs.h"
#include "convae/app/output/callbacks.h"
#include "convae/app/output/evaluation_table.h"

#include <cstdio>

namespace convae::app {

int run_evaluate(const CommandLine& line) {
  const Options& options = line.options;
  EvaluateOptions job;
  job.images.data = folder_options(options).data;
  job.train_data = options.call.train_data;
  job.output = options.run.output;
  job.overwrite = options.call.overwrite;
  const Callbacks callbacks = program_callbacks(options.run);
  const Evaluation evaluation = evaluate(open_model(options, callbacks), job, callbacks);
  const std::string text =
      options.call.json ? to_json(evaluation) + "\n" : evaluation_table(evaluation);
  std::fputs(text.c_str(), stdout);
  return kDone;
}

}  // namespace convae::app
