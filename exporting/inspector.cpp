#include "convae/exporting/inspector.h"

#include "convae/inspection/lines.h"
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

LineKernels line_kernels() {
  const auto& directions = line_directions();
  const auto none = [&](std::int64_t reach) {
    return torch::zeros({std::ssize(directions), 1, 2 * reach + 1, 2 * reach + 1});
  };
  LineKernels kernels{none(kLineReach), none(kBesideReach), none(kBesideReach)};
  const auto add = [](torch::Tensor& kernel, std::int64_t direction, cv::Point at, float share) {
    const std::int64_t reach = kernel.size(2) / 2;
    kernel[direction][0][reach + at.y][reach + at.x] += share;
  };
  for (std::int64_t i = 0; i < std::ssize(directions); ++i) {
    const LineDirection& line = directions[static_cast<std::size_t>(i)];
    for (const int a : {-1, 1}) {
      for (const int b : {-1, 1}) {
        for (const int c : {-1, 1}) {
          add(kernels.along, i, a * line.steps[0] + b * line.steps[1] + c * line.steps[2],
              1.0F / 8);
        }
      }
    }
    add(kernels.left, i, line.beside, 1);
    add(kernels.right, i, -line.beside, 1);
  }
  return kernels;
}

}  // namespace convae
