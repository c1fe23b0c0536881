#include "convae/inference/encode.h"

#include "convae/app/commands/commands.h"
#include "convae/app/commands/needs.h"
#include "convae/app/output/callbacks.h"
#include "convae/core/text.h"

#include <fmt/format.h>

namespace convae::app {

int run_encode(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.run.output, "output", "-o latents.npy");
  const EncodeOptions job{.images = folder_options(options),
                          .output = options.run.output,
                          .pool = options.call.pool,
                          .overwrite = options.call.overwrite};
  const Callbacks callbacks = program_callbacks(options.run);
  const EncodeResult result = encode_folder(open_model(options, callbacks), job, callbacks);
  fmt::print("{} latents in {}\n", result.rows.size(), printable(options.run.output));
  return kDone;
}

}  // namespace convae::app
