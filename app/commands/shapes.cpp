#include "convae/app/commands/commands.h"
#include "convae/models/plan_text.h"

#include <fmt/format.h>

#include <cstdio>

namespace convae::app {
namespace {

void print_text(const ModelOptions& model, Size size) {
  std::int64_t numbers = 1;
  std::string latent;
  for (const std::int64_t extent : model.latent_shape(size)) {
    numbers *= extent;
    latent += (latent.empty() ? "" : "x") + std::to_string(extent);
  }
  const std::string input = shape_text(model.channels, size);
  fmt::print("input   {}\n\n{}\n", input, level_table(model, size));
  fmt::print("latent  {}, {} numbers for {}\n", latent, numbers, model.channels * size.h * size.w);
  fmt::print("output  {}, the input's size\n", input);
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
