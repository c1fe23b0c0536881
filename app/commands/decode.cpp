#include "convae/inference/decode.h"

#include "convae/app/commands/commands.h"
#include "convae/app/commands/needs.h"
#include "convae/app/output/callbacks.h"
#include "convae/core/text.h"

#include <fmt/format.h>

namespace convae::app {

int run_decode(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
  require_given(options.call.latents, "latents", "--latents latents.npy");
  require_given(options.run.output, "output", "-o out");
  options.data.validate();
  const DecodeOptions job{.latents = options.call.latents,
                          .output = options.run.output,
                          .workers = options.data.workers,
                          .overwrite = options.call.overwrite};
  const Callbacks callbacks = program_callbacks(options.run);
  const DecodeResult result = decode_latents(open_model(options, callbacks), job, callbacks);
  fmt::print("{} images in {}\n", result.images.size(), printable(options.run.output));
  return kDone;
}

}  // namespace convae::app
