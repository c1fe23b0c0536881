#include "convae/inference/sample.h"

#include "convae/app/commands/commands.h"
#include "convae/app/commands/needs.h"
#include "convae/app/output/callbacks.h"
#include "convae/core/text.h"

#include <fmt/format.h>

namespace convae::app {

int run_sample(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
  require_given(options.run.output, "output", "-o samples");
  const SampleOptions job{.output = options.run.output,
                          .count = options.call.count,
                          .size = options.data.size,
                          .seed = options.train.seed,
                          .workers = options.data.workers,
                          .overwrite = options.call.overwrite};
  const Callbacks callbacks = program_callbacks(options.run);
  const DrawnPictures drawn = draw_samples(open_model(options, callbacks), job, callbacks);
  fmt::print("{} images of {} in {}, the first {} together in {}\n", drawn.images.size(),
             to_string(drawn.size), printable(options.run.output), drawn.on_sheet, drawn.sheet);
  return kDone;
}

}  // namespace convae::app
