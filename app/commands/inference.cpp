// Commands of one shape: options → one job of inference/ → a line.
#include "convae/app/commands/commands.h"
#include "convae/app/output/logging.h"
#include "convae/core/text.h"
#include "convae/inference/decode.h"
#include "convae/inference/drawing.h"
#include "convae/inference/encode.h"
#include "convae/inference/reconstruct.h"

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <vector>

namespace convae::app {
namespace {

std::string skipped_text(const std::vector<SkippedFile>& skipped) {
  return skipped.empty() ? "" : fmt::format(", {} images skipped", skipped.size());
}

}  // namespace

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
  const auto result = reconstruct_folder(open_model(options), job, program_callbacks(options.run));
  const std::string ssim =
      std::isnan(result.ssim) ? "none (sides under 11)" : fmt::format("{:.4f}", result.ssim);
  fmt::print("{} reconstructions in {}: mse {:.6f}, PSNR {:.2f} dB, SSIM {}{}\n",
             result.images.size(), printable(options.run.output), result.mse, result.psnr, ssim,
             skipped_text(result.skipped));
  if (result.corrupted) {
    fmt::print("corrupted by {}: PSNR {:.2f} dB before, {:.2f} dB after the network\n",
               to_string(job.corruptions), result.input_psnr, result.psnr);
  }
  return kDone;
}

int run_encode(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.run.output, "output", "-o latents.npy");
  const EncodeOptions job{.images = folder_options(options),
                          .output = options.run.output,
                          .pool = options.call.pool,
                          .overwrite = options.call.overwrite};
  const auto result = encode_folder(open_model(options), job, program_callbacks(options.run));
  fmt::print("{} latents in {}{}\n", result.rows.size(), printable(options.run.output),
             skipped_text(result.skipped));
  return kDone;
}

int run_decode(const CommandLine& line) {
  const Options& options = line.options;
  require_checkpoint(options);
  require_given(options.call.latents, "latents", "--latents latents.npy");
  require_given(options.run.output, "output", "-o out");
  options.data.validate();
  const DecodeOptions job{.latents = options.call.latents,
                          .size = options.data.size,
                          .output = options.run.output,
                          .workers = options.data.workers,
                          .max_pixels = options.data.max_pixels,
                          .overwrite = options.call.overwrite};
  const auto result = decode_latents(open_model(options), job, program_callbacks(options.run));
  fmt::print("{} images in {}\n", result.images.size(), printable(options.run.output));
  return kDone;
}

int run_sample(const CommandLine& line) {
  const Options& options = line.options;
  require_checkpoint(options);
  require_given(options.run.output, "output", "-o samples");
  options.data.validate();
  const SampleOptions job{.output = options.run.output,
                          .count = options.call.count,
                          .size = options.data.size,
                          .seed = options.train.seed,
                          .workers = options.data.workers,
                          .overwrite = options.call.overwrite};
  const auto drawn = draw_samples(open_model(options), job, program_callbacks(options.run));
  fmt::print("{} images of {} in {}, the first {} together in {}\n", drawn.images.size(),
             to_string(drawn.size), printable(options.run.output), drawn.on_sheet, drawn.sheet);
  return kDone;
}

int run_interpolate(const CommandLine& line) {
  const Options& options = line.options;
  require_checkpoint(options);
  require_given(options.run.output, "output", "-o between");
  require_option(line.operands.size() == 2,
                 "interpolate needs two images, such as: convae interpolate a.png b.png "
                 "--checkpoint runs/latest -o between");
  options.data.validate();
  const InterpolateOptions job{.from = line.operands[0],
                               .to = line.operands[1],
                               .output = options.run.output,
                               .steps = options.call.steps,
                               .size = options.data.size,
                               .max_pixels = options.data.max_pixels,
                               .workers = options.data.workers,
                               .overwrite = options.call.overwrite};
  const auto drawn = interpolate(open_model(options), job, program_callbacks(options.run));
  const bool shows_all = drawn.on_sheet == std::ssize(drawn.images);
  fmt::print("{} images of {} in {}, {}side by side in {}\n", drawn.images.size(),
             to_string(drawn.size), printable(options.run.output),
             shows_all ? "" : fmt::format("{} of them ", drawn.on_sheet), drawn.sheet);
  return kDone;
}

}  // namespace convae::app
