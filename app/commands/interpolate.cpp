#include "convae/inference/interpolate.h"

#include "convae/app/commands/commands.h"
#include "convae/app/commands/needs.h"
#include "convae/app/output/callbacks.h"
#include "convae/core/text.h"

#include <fmt/format.h>

namespace convae::app {

int run_interpolate(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
  require_given(options.run.output, "output", "-o between");
  if (line.operands.size() != 2) {
    throw UsageError(
        "interpolate needs two images, such as: convae interpolate a.png b.png "
        "--checkpoint runs/latest -o between");
  }
  options.data.validate();
  const InterpolateOptions job{.from = line.operands[0],
                               .to = line.operands[1],
                               .output = options.run.output,
                               .steps = options.call.steps,
                               .size = options.data.size,
                               .max_pixels = options.data.max_pixels,
                               .workers = options.data.workers,
                               .overwrite = options.call.overwrite};
  const Callbacks callbacks = program_callbacks(options.run);
  const DrawnPictures drawn = interpolate(open_model(options, callbacks), job, callbacks);
  fmt::print("{} images of {} in {}, side by side in {}\n", drawn.images.size(),
             to_string(drawn.size), printable(options.run.output), drawn.sheet);
  return kDone;
}

}  // namespace convae::app
