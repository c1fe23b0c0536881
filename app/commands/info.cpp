#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/level_table.h"
#include "convae/core/files.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace convae::app {
namespace {

using nlohmann::ordered_json;

ordered_json describe(const Model& model) {
  const ModelOptions& options = model.options();
  ordered_json levels = ordered_json::array();
  for (const LevelSpec& level : options.levels) levels.push_back(to_string(level));
  ordered_json result;
  result["file"] = printable(model.path().string());
  result["format"] = model.info().format;
  result["convae"] = model.info().convae_version;
  result["libtorch"] = model.info().libtorch_version;
  result["epoch"] = model.info().progress.epoch;
  result["step"] = model.info().progress.step;
  result["seed"] = model.info().seed;
  result["parameters"] = options.parameter_count();
  result["channels"] = options.channels;
  result["range"] = options.output == Output::tanh ? ordered_json{-1, 1} : ordered_json{0, 1};
  result["levels"] = std::move(levels);
  result["order"] = to_string(options.order);
  result["activation"] = to_string(options.activation);
  result["norm"] = to_string(options.norm);
  result["latent-channels"] = options.latent_channels;
  result["latent"] = options.latent;
  result["size"] =
      options.latent > 0 ? ordered_json(to_string(options.size)) : ordered_json(nullptr);
  result["output"] = to_string(options.output);
  result["variational"] = options.variational;
  result["best-epoch"] = model.info().progress.best_epoch;
  result["best-by"] = to_string(model.info().progress.best_by);
  result["best-loss"] = model.info().progress.best_epoch > 0
                            ? ordered_json(model.info().progress.best_value)
                            : ordered_json(nullptr);
  return result;
}

}  // namespace

int run_info(const CommandLine& line) {
  if (line.options.call.checkpoint.empty()) {
    throw UsageError("info needs a run folder or a checkpoint, such as: convae info runs/latest");
  }
  const Model model = load(line.options.call.checkpoint);
  const ordered_json description = describe(model);
  if (line.options.call.json) {
    std::puts(description.dump().c_str());
    return kDone;
  }
  for (const auto& [key, value] : description.items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (key == "levels") text = to_string(model.options().levels);
    if (value.is_null()) text = key == "size" ? "any" : "none";
    std::printf("%-16s %s\n", key.c_str(), printable(text).c_str());
  }
  return kDone;
}

}  // namespace convae::app
