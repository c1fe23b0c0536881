#pragma once

#include "convae/core/size.h"
#include "convae/inspection/features.h"

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace convae {

/// Along one side of an image, kPlaces places at which images of all sizes are compared. Within
/// kBorder pixels of an end they are counted in pixels, since rims and chamfers are as wide on a
/// large part as on a small one; what is between is divided evenly. Short sides are divided evenly
/// as a whole.
inline constexpr std::int64_t kPlaces = 32;
inline constexpr std::int64_t kBorder = 32;  ///< pixels, of kPlaces / 4 places
inline constexpr double kPixelsAPlace = 4;   ///< at the border
inline constexpr double kBorderPlaces = static_cast<double>(kBorder) / kPixelsAPlace;

/// (n, kPlaces) float: how much each place says about each of the n pixels at that level of an
/// image's side of `length` pixels. Rows sum to one: straight lines between places.
torch::Tensor places_of_pixels(std::int64_t length, int level);

/// Those of both sides.
struct Places {
  torch::Tensor rows, columns;
  Places(Size image, int level)
      : rows(places_of_pixels(image.h, level)), columns(places_of_pixels(image.w, level)) {}
};

/// What values there are at each place of some maps, and how much they vary.
///
/// Images belong to folds: one that is to show what unseen good images get must not be compared
/// with itself, so it is compared with the other folds.
class PlaceStatistics {
public:
  explicit PlaceStatistics(int folds) : sums_(static_cast<std::size_t>(folds)) {}

  /// What an image has at each place, and its squares: (2, K, kPlaces, kPlaces) float.
  static torch::Tensor seen(const LevelMaps& maps, const Places& places);
  void add(const torch::Tensor& seen, int fold);

  /// (2, K, kPlaces, kPlaces) float: one over the deviation, and the mean over it; from all images
  /// but those of the fold, or from all where it is -1. Throws std::invalid_argument where there
  /// are none.
  torch::Tensor without(int fold) const;

  /// Maps as far above the mean, in deviations: (K, h, w). `scale` as from without().
  static torch::Tensor standardise(const LevelMaps& maps, const Places& places,
                                   const torch::Tensor& scale);

private:
  struct Sums {
    torch::Tensor seen = torch::zeros({}, torch::kDouble);
    std::int64_t images = 0;
  };
  std::vector<Sums> sums_;
};

}  // namespace convae
