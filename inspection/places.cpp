#include "convae/inspection/places.h"

#include <stdexcept>

namespace convae {
namespace {

/// No place is held to be steadier than this share of the mean deviation: where good images happen
/// to have nothing, a trace of something would count without end.
constexpr double kSteadiest = 0.1;
/// Below them, of which the second is a share of the mean, there are only errors of rounding: in a
/// level of two pixels both are alike, so that each has the mean.
constexpr double kSmallestDeviation = 1e-5, kSmallestVariation = 1e-3;
/// Weight of places that no pixel of a short side is near.
constexpr double kFarWeight = 1e-4;

/// Where pixels' centres are, from 0 to kPlaces.
torch::Tensor place_of(const torch::Tensor& at, double length) {
  const double inner_places = kPlaces - 2 * kBorderPlaces;
  const double inner_pixels = length - 2.0 * kBorder;
  if (inner_pixels < inner_places) return at * (kPlaces / length);
  const torch::Tensor between =
      (at - static_cast<double>(kBorder)) * (inner_places / inner_pixels) + kBorderPlaces;
  const torch::Tensor end = (at - length) / kPixelsAPlace + static_cast<double>(kPlaces);
  const double last_border = length - static_cast<double>(kBorder);
  return torch::where(at < kBorder, at / kPixelsAPlace,
                      torch::where(at > last_border, end, between));
}

/// (n, kPlaces) → (kPlaces, n): for each place the mean of the pixels it says most about.
torch::Tensor means_at_places(const torch::Tensor& of_pixels) {
  const torch::Tensor n = torch::arange(of_pixels.size(0), torch::kFloat);
  const torch::Tensor distance =
      (of_pixels.matmul(torch::arange(kPlaces, torch::kFloat)).unsqueeze(0) -
       torch::arange(kPlaces, torch::kFloat).unsqueeze(1))
          .abs();
  const torch::Tensor weights = of_pixels.t() + kFarWeight * torch::exp(-distance);
  return weights / weights.sum(1, /*keepdim=*/true);
}

/// (K, kPlaces, kPlaces): neighbouring places share what they know.
torch::Tensor smoothed(const torch::Tensor& places) {
  const torch::Tensor line = torch::tensor({1.0, 4.0, 6.0, 4.0, 1.0}, torch::kDouble) / 16;
  const torch::Tensor kernel = line.unsqueeze(0) * line.unsqueeze(1);
  const torch::Tensor padded = torch::replication_pad2d(places.unsqueeze(1), {2, 2, 2, 2});
  return torch::conv2d(padded, kernel.view({1, 1, 5, 5})).squeeze(1);
}

}  // namespace

torch::Tensor places_of_pixels(std::int64_t length, int level) {
  const auto side = static_cast<double>(length);
  // The last pixel of a level may reach beyond an odd side.
  const torch::Tensor pixels = torch::arange(at_level(length, level), torch::kFloat);
  const torch::Tensor at = ((pixels + 0.5) * (1 << level)).clamp_max(side - 0.25);
  const torch::Tensor place =
      (place_of(at, side) - 0.5).clamp(0, static_cast<double>(kPlaces - 1)).unsqueeze(1);
  return (1 - (place - torch::arange(kPlaces, torch::kFloat)).abs()).clamp_min(0);
}

torch::Tensor PlaceStatistics::seen(const LevelMaps& maps, const Places& places) {
  const torch::Tensor down = means_at_places(places.rows);
  const torch::Tensor across = means_at_places(places.columns).t();
  const auto at_places = [&](const torch::Tensor& values, const torch::Tensor& gains) {
    return LevelMaps{down.matmul(values.matmul(across)), gains}.maps();
  };
  return torch::stack(
      {at_places(maps.values, maps.gains), at_places(maps.values.square(), maps.gains.square())});
}

void PlaceStatistics::add(const torch::Tensor& seen, int fold) {
  Sums& sums = sums_[static_cast<std::size_t>(fold)];
  sums.seen = sums.seen + seen.to(torch::kDouble);
  ++sums.images;
}

torch::Tensor PlaceStatistics::without(int fold) const {
  Sums all;
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    if (static_cast<int>(i) == fold) continue;
    all.seen = all.seen + sums_[i].seen;
    all.images += sums_[i].images;
  }
  if (all.images == 0) throw std::invalid_argument("places take images of two folds or more");
  const torch::Tensor means = all.seen / all.images;
  const torch::Tensor mean = smoothed(means[0]), square = smoothed(means[1]);
  const torch::Tensor deviation = (square - mean.square()).clamp_min(0).sqrt();
  const auto over_places = [](const torch::Tensor& places) {
    return places.mean({1, 2}, /*keepdim=*/true);
  };
  const torch::Tensor least = kSteadiest * over_places(deviation) +
                              kSmallestVariation * over_places(mean.abs()) + kSmallestDeviation;
  const torch::Tensor scale = 1 / torch::maximum(deviation, least);
  return torch::stack({scale, mean * scale}).to(torch::kFloat);
}

torch::Tensor PlaceStatistics::standardise(const LevelMaps& maps, const Places& places,
                                           const torch::Tensor& scale) {
  const std::int64_t raw = maps.values.size(0), count = scale.size(1);
  const torch::Tensor with_gains =
      torch::stack({scale[0] * maps.gains.view({-1, 1, 1}), scale[1].neg()});
  const torch::Tensor by_rows = places.rows.matmul(with_gains), across = places.columns.t();
  torch::Tensor result =
      torch::empty({count, maps.values.size(1), maps.values.size(2)}, maps.values.options());
  for (std::int64_t k = 0; k < count; ++k) {  // one by one: its place in memory stays near
    const torch::Tensor at_pixels = by_rows.select(1, k).matmul(across);  // (2, h, w)
    torch::Tensor map = result[k];
    torch::addcmul_out(map, at_pixels[1], at_pixels[0], maps.values[k % raw]);
  }
  return result;
}

}  // namespace convae
