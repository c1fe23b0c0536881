#pragma once

#include "convae/core/size.h"
#include "convae/inspection/features.h"

#include <torch/types.h>

#include <tuple>
#include <vector>

namespace convae {

inline constexpr double kMostDeviations = 30;  ///< of a standardised map: beyond is no worse

/// Some pixels of an image with a drawn defect or of a good one.
struct SampledPixels {
  torch::Tensor maps;        ///< (n, K) float, what both_ends() of all maps have there
  std::vector<int> defects;  ///< (n): 1 where the defect is, else 0

  template <typename Self>
  static auto parts(Self& self) {
    return std::tie(self.maps, self.defects);
  }

  /// Of an image of `size`. `label` (H, W): how much a drawn defect changed; not defined: it is a
  /// good image.
  static SampledPixels of(const StandardisedMaps& maps, Size size, const torch::Tensor& label);
};

/// Where an image is anomalous: the logarithm of how much likelier a pixel is where a defect was
/// drawn than where none was, by logistic regression on what the maps have there; scaled so that 0
/// is usual and 1 what the strongest 0.1 % of good pixels have.
struct HeatMap {
  torch::Tensor weights;  ///< (K) float, of the logarithms of maps
  torch::Tensor bias;     ///< (1) float

  static constexpr double kMost = 10;  ///< the highest value of a map

  /// By `count` maps from `first` on; the others have weight 0. Without pixels of defects and
  /// pixels without, the map is 0.
  static HeatMap fit(const SampledPixels& pixels, std::int64_t first, std::int64_t count);

  /// (H, W) float of `size`.
  torch::Tensor of(const StandardisedMaps& maps, Size size) const;

  /// What it adds up, at one level's size: bias and of each level the share of both_ends()
  /// of its maps, of which `first` come before; not defined where that is 0. Then it is cut to 0 …
  /// kMost.
  torch::Tensor share_of(const torch::Tensor& maps, std::int64_t first) const;
};

}  // namespace convae
