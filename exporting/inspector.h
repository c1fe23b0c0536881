#pragma once

#include "convae/inspection/inspector.h"

#include <torch/types.h>

#include <vector>

namespace convae {

/// What an inspector's score is computed with, for files that hold the whole of it; on the CPU.
struct InspectorNumbers {
  /// Of each pyramid in the order of SeenImage, the network's first: (levels, 2, K, kPlaces,
  /// kPlaces) float, see PlaceStatistics::without().
  std::vector<torch::Tensor> places;
  torch::Tensor mean, deviation;          ///< (F) double, of the features of good images
  torch::Tensor weights, biases;          ///< (kinds, F) and (kinds) double
  torch::Tensor heat_weights, heat_bias;  ///< see HeatMap
};
InspectorNumbers numbers_of(const Inspector& inspector);

}  // namespace convae
