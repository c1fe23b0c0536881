#include "convae/exporting/inspector.h"

#include "convae/inspection/scorer.h"

#include <string>

namespace convae {

InspectorNumbers numbers_of(const Inspector& inspector) {
  const AnomalyScorer::State state = inspector.scorer().state();
  const auto number = [&](const std::string& name) { return state.at(name).detach().cpu(); };
  const std::string part = "part." + std::to_string(AnomalyScorer::kAll);
  InspectorNumbers numbers{.places = {},
                           .mean = number("mean"),
                           .deviation = number("deviation"),
                           .weights = number(part + ".weights"),
                           .biases = number(part + ".biases"),
                           .heat_weights = number(part + ".heat-weights"),
                           .heat_bias = number(part + ".heat-bias")};
  for (std::size_t i = 0; state.contains("places." + std::to_string(i)); i += kPyramidLevels) {
    std::vector<torch::Tensor> levels;
    for (std::size_t level = 0; level < kPyramidLevels; ++level) {
      levels.push_back(number("places." + std::to_string(i + level)));
    }
    numbers.places.push_back(torch::stack(levels));
  }
  return numbers;
}

}  // namespace convae
