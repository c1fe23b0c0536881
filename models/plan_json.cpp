#include "convae/models/plan_json.h"

#include <nlohmann/json.hpp>

namespace convae {

std::string plan_json(const ModelOptions& model, Size input) {
  using nlohmann::ordered_json;
  const auto shape = [](std::int64_t channels, Size size) {
    return ordered_json{channels, size.h, size.w};
  };
  ordered_json levels = ordered_json::array();
  for (const LevelPlan& level : plan_sizes(model.levels, input, model.channels).levels) {
    const ordered_json outer = shape(level.in_channels, level.in);
    const ordered_json inner = shape(level.out_channels, level.out);
    levels.push_back({{"conv", {{"in", outer}, {"out", inner}}},
                      {"convT",
                       {{"in", inner},
                        {"output_padding", per_axis(level.output_padding)},
                        {"without", shape(level.in_channels, level.without_output_padding())},
                        {"out", outer}}}});
  }
  const ordered_json image = shape(model.channels, input);
  const ordered_json json = {{"input", image},
                             {"levels", levels},
                             {"latent", model.latent_shape(input)},
                             {"output", image}};
  return json.dump();
}

}  // namespace convae
