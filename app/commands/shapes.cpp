#include "convae/app/commands/commands.h"
#include "convae/models/plan_text.h"

#include <fmt/format.h>

#include <cstdio>
#include <vector>

namespace convae::app {
namespace {

std::string latent_text(const ModelOptions& model, Size size) {
  if (!model.has_latents()) return "none: the decoder needs the image, too";
  const std::vector<std::int64_t> shape = model.latent_shape(size);
  return fmt::format("{}, {} numbers for {}", fmt::join(shape, "x"), c10::multiply_integers(shape),
                     model.channels * size.h * size.w);
}

void print_text(const ModelOptions& model, Size size) {
  const std::string input = shape_text(model.channels, size);
  fmt::print("input   {}\n\n{}\n", input, level_table(model, size));
  fmt::print("latent  {}\n", latent_text(model, size));
  fmt::print("output  {}, the input's size\n", input);
  if (model.shortcut == Shortcut::shuffle) {
    std::puts("shortcut  around every level: pixels to channels, averaged, and back");
  }
  if (model.linear == Linear::pca) {
    fmt::print(
        "linear  the latent starts as principal components{}, whose image the decoder restores\n",
        model.latent > 0 ? "" : " of blocks of " + to_string(model.linear_block()));
  }
  if (model.skip == Skip::add) {
    std::puts("skip  each level of the decoder adds what the encoder had at its size");
  }
  if (model.residual) std::puts("residual  the output is taken away from the input");
  if (!model.detector.empty()) fmt::print("{}\n", detector_line(model, size));
  std::puts("");
  std::puts(
      "Per axis, with e = d(k-1)+1: a convolution makes m = floor((n + 2p - e) / s) + 1 of n, a\n"
      "transposed one n' = (m - 1)s - 2p + e + output_padding of m, and n' = n exactly for\n"
      "output_padding = (n + 2p - e) mod s.");
}

}  // namespace

int run_shapes(const CommandLine& line) {
  require_given(line.options.call.input, "input", "--input 3x24x24");
  ModelOptions model = line.options.model;
  const Size size = set_input(model, line.options.call.input);
  model.validate();
  if (line.options.call.json) {
    std::puts(plan_json(model, size).c_str());
  } else {
    print_text(model, size);
  }
  return kDone;
}

}  // namespace convae::app
