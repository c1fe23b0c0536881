#include "convae/inspection/places.h"

#include <algorithm>
#include <cmath>

namespace convae {
namespace {

constexpr double kPixelsAPlace = 4;  // at the border
constexpr double kBorderPlaces = static_cast<double>(Places::kBorder) / kPixelsAPlace;

/// Where a pixel's centre is, from 0 to kPlaces.
double place_of(std::int64_t pixel, std::int64_t length) {
  const double at = static_cast<double>(pixel) + 0.5;
  const auto side = static_cast<double>(length);
  const double inner_places = Places::kPlaces - 2 * kBorderPlaces;
  const double inner_pixels = side - 2.0 * Places::kBorder;
  if (inner_pixels < inner_places) return at * Places::kPlaces / side;
  if (at < Places::kBorder) return at / kPixelsAPlace;
  if (at > side - Places::kBorder) return Places::kPlaces - (side - at) / kPixelsAPlace;
  return kBorderPlaces + (at - Places::kBorder) * inner_places / inner_pixels;
}

}  // namespace

Places::Places(std::int64_t length)
    : gather_(torch::zeros({kPlaces, length})), spread_(torch::zeros({length, kPlaces})) {
  auto gather = gather_.accessor<float, 2>();
  auto spread = spread_.accessor<float, 2>();
  for (std::int64_t pixel = 0; pixel < length; ++pixel) {
    const double at = place_of(pixel, length);
    gather[std::min(static_cast<std::int64_t>(at), kPlaces - 1)][pixel] = 1;
    const double centre = std::clamp(at - 0.5, 0.0, static_cast<double>(kPlaces - 1));
    const auto low = std::min(static_cast<std::int64_t>(centre), kPlaces - 2);
    const double share = centre - static_cast<double>(low);
    spread[pixel][low] = static_cast<float>(1 - share);
    spread[pixel][low + 1] = static_cast<float>(share);
  }
  for (std::int64_t place = 0; place < kPlaces; ++place) {
    const auto pixels = gather_[place].sum().item<double>();
    if (pixels > 0) {
      gather_[place] /= pixels;
    } else {
      // Only where a short side is divided evenly.
      gather[place][static_cast<std::int64_t>((static_cast<double>(place) + 0.5) *
                                              static_cast<double>(length) / kPlaces)] = 1;
    }
  }
}

}  // namespace convae
