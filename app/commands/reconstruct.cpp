#include "convae/inference/reconstruct.h"

#include "convae/app/commands/commands.h"
#include "convae/app/commands/needs.h"
#include "convae/app/output/callbacks.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <cmath>

namespace convae::app {

int run_reconstruct(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.run.output, "output", "-o out");
  const ReconstructOptions job{.images = folder_options(options),
                               .output = options.run.output,
                               .format = options.call.format,
                               .grid = options.call.grid,
                               .error_map = options.call.error_map,
                               .overwrite = options.call.overwrite,
                               .corruptions = options.train.corruptions,
                               .seed = options.train.seed};
  const Callbacks callbacks = program_callbacks(options.run);
  const ReconstructResult result =
      reconstruct_folder(open_model(options, callbacks), job, callbacks);
  const std::string ssim =
      std::isnan(result.ssim) ? "none (sides under 11)" : fmt::format("{:.4f}", result.ssim);
  fmt::print("{} reconstructions in {}: mse {:.6f}, PSNR {:.2f} dB, SSIM {}\n",
             result.images.size(), printable(options.run.output), result.mse, result.psnr, ssim);
  if (result.corrupted) {
    fmt::print("corrupted by {}: PSNR {:.2f} dB before, {:.2f} dB after the network\n",
               to_string(job.corruptions), result.input_psnr, result.psnr);
  }
  return kDone;
}

}  // namespace convae::app
