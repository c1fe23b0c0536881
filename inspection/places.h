#pragma once

#include <torch/types.h>

#include <cstdint>

namespace convae {

/// Along one side of an image, kPlaces places at which images of all sizes are compared. Within
/// kBorder pixels of an end they are counted in pixels, since rims and chamfers are as wide on a
/// large part as on a small one; what is between is divided evenly. Short sides are divided evenly
/// as a whole.
class Places {
public:
  static constexpr std::int64_t kPlaces = 32;
  static constexpr std::int64_t kBorder = 32;  ///< pixels, of kPlaces / 4 places

  /// length: pixels of the side, at least 1.
  explicit Places(std::int64_t length);

  /// (kPlaces, length) float: times values of pixels, their mean at every place; a place between
  /// two pixels takes the nearer one.
  const torch::Tensor& gather() const { return gather_; }

  /// (length, kPlaces) float: times values of places, straight lines between them at the pixels.
  const torch::Tensor& spread() const { return spread_; }

private:
  torch::Tensor gather_, spread_;
};

}  // namespace convae
