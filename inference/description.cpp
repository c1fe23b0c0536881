#include "convae/inference/description.h"

#include "convae/core/text.h"

#include <nlohmann/json.hpp>

namespace convae {

std::string description_json(const Model& model) {
  using nlohmann::ordered_json;
  const ModelOptions& options = model.options();
  const CheckpointInfo& info = model.info();
  const Progress& progress = info.progress;
  ordered_json levels = ordered_json::array();
  for (const LevelSpec& level : options.levels) levels.push_back(to_string(level));
  const bool fixes_size = options.latent > 0;
  const bool has_best = progress.best_epoch > 0;
  const ordered_json json = {
      {"file", printable(model.path().string())},
      {"format", info.format},
      {"convae", info.convae_version},
      {"libtorch", info.libtorch_version},
      {"epoch", progress.epoch},
      {"step", progress.step},
      {"seed", info.seed},
      {"parameters", options.parameter_count()},
      {"channels", options.channels},
      {"range", {options.output == Output::tanh ? -1 : 0, 1}},
      {"levels", levels},
      {"order", to_string(options.order)},
      {"activation", to_string(options.activation)},
      {"norm", to_string(options.norm)},
      {"latent-channels", options.latent_channels},
      {"latent", options.latent},
      {"size", fixes_size ? ordered_json(to_string(options.size)) : ordered_json(nullptr)},
      {"output", to_string(options.output)},
      {"variational", options.variational},
      {"best-epoch", progress.best_epoch},
      {"best-by", to_string(progress.best_by)},
      {"best-loss", has_best ? ordered_json(progress.best_value) : ordered_json(nullptr)}};
  return json.dump();
}

}  // namespace convae
