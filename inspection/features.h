#pragma once

#include "convae/core/size.h"

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace convae {

/// Maps of one view of an image at one level of a pyramid.
struct LevelMaps {
  torch::Tensor values;  ///< (R, h, w) float
  torch::Tensor gains;   ///< (K) float, K a multiple of R: map k is gains[k] · values[k mod R]

  torch::Tensor maps() const;  ///< (K, h, w)
};
/// From the finest level to the coarsest, of one view or of several, one after another.
using Pyramid = std::vector<LevelMaps>;

/// The finest maps have half the image's size: at full size there is mostly noise, in three
/// quarters of the pixels. The coarsest see uneven light.
inline constexpr int kFirstLevel = 1, kLevelsEnd = 6;
inline constexpr int kPyramidLevels = kLevelsEnd - kFirstLevel;
/// The level of the maps of that index in a pyramid.
constexpr int level_of(std::size_t index) {
  return kFirstLevel + static_cast<int>(index) % kPyramidLevels;
}
/// Sides of a level: 1/2^level of the image's, rounded up.
constexpr std::int64_t at_level(std::int64_t length, int level) {
  return (length + (1 << level) - 1) >> level;
}
constexpr Size at_level(Size size, int level) {
  return {at_level(size.h, level), at_level(size.w, level)};
}

/// (K, h, w) float of each level of each view: how far its maps are above the usual, in deviations.
using StandardisedMaps = std::vector<torch::Tensor>;

inline constexpr double kFineBlur = 1, kRoughnessBlur = 2.5;  ///< σ in pixels of a level
inline constexpr double kSmallestMean = 1e-4;  ///< divisor of an image that is black or uniform
/// Subtracted from all maps: hides rounding, which differs between runtimes, and clears levels of a
/// single pixel.
inline constexpr double kRounding = 1e-6;

/// What is looked at in an image or a residual, at each level, of a blur by σ = 1:
///
/// | map        | is |
/// |------------|----|
/// | gradient y | absolute difference to the neighbours above and below |
/// | gradient x | … to the left and right |
/// | roughness  | standard deviation of what the blur takes away, around a place (σ = 2.5) |
///
/// All are there twice: divided by the map's mean in this image, so that an image which is rough
/// everywhere is no anomaly, and by the image's brightness, so that one which is smooth everywhere
/// is none for its faintest marks. Colours: the largest of them counts.
///
/// planes: (C, H, W) float; brightness: the image's mean.
Pyramid texture_maps(const torch::Tensor& planes, double brightness);

/// Maps of texture_maps(): of each kind one by its mean and one by the brightness. Those of
/// roughness are the last of either.
inline constexpr std::int64_t kRawMaps = 3, kTextureMaps = 2 * kRawMaps;
inline constexpr std::int64_t kRoughness = kRawMaps - 1;

/// Their values, of one level, and how far they see to every side.
torch::Tensor raw_maps(const torch::Tensor& planes);
inline constexpr std::int64_t kTextureReach = 11;
/// Their gains, by the means (kRawMaps) of those values over the whole image.
torch::Tensor texture_gains(const torch::Tensor& means, double brightness);
/// Planes (C, H, W) at the next level.
torch::Tensor next_level(const torch::Tensor& planes);

/// A detector's maps of 0 to 1 → logits, to kMostLogit either way: at 0.99 and 0.999 it is not
/// equally sure.
inline constexpr double kMostLogit = 6;
torch::Tensor logits_of(const torch::Tensor& maps);

/// A map (1, H, W), averaged at each level.
Pyramid mean_maps(const torch::Tensor& map);

/// Standardised maps (K, h, w) of a level, and what is far below the usual of them: of roughness
/// also the lowest values stand out.
torch::Tensor both_ends(const torch::Tensor& standardised);
/// How many that are.
constexpr std::int64_t peak_count(std::int64_t maps) {
  return maps == kTextureMaps ? maps + kTextureMaps / kRawMaps : maps;
}
/// The share of a map's pixels that its peak is the mean of. A detector's are smooth.
constexpr double peak_share(std::int64_t maps) { return maps == kTextureMaps ? 0.001 : 0.01; }

/// The peaks of a level's maps: means of their highest values.
class Peaks {
public:
  /// Of standardised maps with so many pixels each, and of so many without both_ends().
  Peaks(std::int64_t pixels, std::int64_t maps);

  /// A part of all pixels, (K, h, w) float with both_ends().
  void add(const torch::Tensor& maps);
  torch::Tensor means();  ///< (K) double

private:
  /// Of a map, more values than count_ at times: only now and then are the lower ones dropped.
  /// at::topk, which sorts places as well, takes much longer.
  struct Highest {
    std::vector<float> values;
    float lowest = -std::numeric_limits<float>::infinity();  ///< what counts is above
  };
  std::vector<Highest> highest_;
  std::size_t count_ = 0;  ///< of the values of a peak
};

}  // namespace convae
