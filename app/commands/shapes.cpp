#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/level_table.h"
#include "convae/core/files.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace convae::app {
namespace {

using nlohmann::ordered_json;

ordered_json shape(std::int64_t channels, Size size) { return {channels, size.h, size.w}; }

ordered_json to_json(const ModelOptions& model, const Plan& plan) {
  ordered_json levels = ordered_json::array();
  for (const LevelPlan& level : plan.levels) {
    ordered_json conv, conv_transpose;
    conv["in"] = shape(level.in_channels, level.in);
    conv["out"] = shape(level.out_channels, level.out);
    conv_transpose["in"] = shape(level.out_channels, level.out);
    conv_transpose["output_padding"] = {level.output_padding.h, level.output_padding.w};
    conv_transpose["without"] = shape(level.in_channels, level.without_output_padding());
    conv_transpose["out"] = shape(level.in_channels, level.in);
    ordered_json both;
    both["conv"] = std::move(conv);
    both["convT"] = std::move(conv_transpose);
    levels.push_back(std::move(both));
  }
  ordered_json result;
  result["input"] = shape(model.channels, plan.input);
  result["levels"] = std::move(levels);
  result["latent"] = model.latent_shape(plan.input);
  result["output"] = shape(model.channels, plan.input);
  return result;
}

void print_text(const ModelOptions& model, const Plan& plan) {
  const ordered_json latent = model.latent_shape(plan.input);
  std::int64_t numbers = 1;
  std::string latent_text;
  for (const auto& extent : latent) {
    numbers *= extent.get<std::int64_t>();
    latent_text += (latent_text.empty() ? "" : "x") + extent.dump();
  }
  const std::string input = shape_text(model.channels, plan.input);
  const std::int64_t input_numbers = model.channels * plan.input.h * plan.input.w;
  std::printf(
      "input   %s\n\n%s\nlatent  %s, %lld numbers for %lld\noutput  %s, the input's size\n\n",
      input.c_str(), level_table(model, plan.input).c_str(), latent_text.c_str(),
      static_cast<long long>(numbers), static_cast<long long>(input_numbers), input.c_str());
  std::puts(
      "Per axis, with e = d(k-1)+1: a convolution makes m = floor((n + 2p - e) / s) + 1 of n, a\n"
      "transposed one n' = (m - 1)s - 2p + e + output_padding of m, and n' = n exactly for\n"
      "output_padding = (n + 2p - e) mod s.");
}

}  // namespace

int run_shapes(const CommandLine& line) {
  require_given(line.options.call.input, "input", "--input 3x24x24");
  const InputShape input = parse_input(line.options.call.input);
  ModelOptions model = line.options.model;
  model.channels = input.channels;
  if (model.latent > 0) model.size = input.size;
  model.validate();
  const Plan plan = plan_sizes(model.levels, input.size, input.channels);
  if (line.options.call.json) {
    std::puts(to_json(model, plan).dump().c_str());
  } else {
    print_text(model, plan);
  }
  return kDone;
}

}  // namespace convae::app
