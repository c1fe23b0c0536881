#include "convae/inspection/tiled_view.h"

#include "convae/inference/tiles.h"
#include "convae/inspection/views.h"
#include "convae/models/pixels.h"
#include "convae/models/tiling.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

namespace convae {
namespace {

/// Levels that are made of one window: it needs a margin for the coarsest of them.
constexpr int kLevelsAtOnce = 3;
constexpr std::int64_t kBefore = 1, kBehind = 2;  // pixels of a level that resize_part() wants
/// So far beyond a tile, and to a pixel of the first level that is kept.
constexpr std::int64_t kMargin = 56;
static_assert(kMargin >= (kTextureReach + kBehind) << (kLevelsAtOnce - 1));
static_assert(kMargin % (1 << kLevelsAtOnce) == 0);
/// Tiles begin at pixels of the first level that is kept.
static_assert(kFirstLevel == 1);  // level 0 is the picture itself
constexpr std::int64_t kStepOfSide = 1 << kLevelsAtOnce;

std::int64_t at_level(std::int64_t end, int level) { return (end + (1 << level) - 1) >> level; }

Span at_level(Span span, int level) { return {span.begin >> level, at_level(span.end, level)}; }

Region at_level(const Region& region, int level) {
  return {at_level(region.rows, level), at_level(region.columns, level)};
}

Size at_level(Size size, int level) { return {at_level(size.h, level), at_level(size.w, level)}; }

Span widened_by(Span span, std::int64_t before, std::int64_t behind, std::int64_t length) {
  return {std::max<std::int64_t>(0, span.begin - before), std::min(span.end + behind, length)};
}

Region widened_by(const Region& region, std::int64_t before, std::int64_t behind, Size size) {
  return {widened_by(region.rows, before, behind, size.h),
          widened_by(region.columns, before, behind, size.w)};
}

/// The place of `part` in maps of `seen`.
torch::Tensor part_of(const torch::Tensor& maps, const Region& part, const Region& seen) {
  return cut(maps, part.within(seen));
}

/// What is looked at, in the order of an image's maps; `detected` only where there is a detector.
enum PlaneKind : std::size_t { kResidual, kDetected, kImage, kViews };
using ViewPlanes = std::array<torch::Tensor, kViews>;  // (C, h, w) float, or not defined

/// A tile at one of the levels.
struct TilePart {
  int level = 0;
  Size size;                ///< of the level's whole map
  Region core, near, seen;  ///< the tile; with what its heat needs; with all that `planes` has
  ViewPlanes planes;
};

/// Where planes come from: a picture and its network, or what was kept of them.
struct PlaneSource {
  int first = 0;  ///< its first level …
  Size size;      ///< … and that one's size
  std::function<ViewPlanes(const Region& seen)> planes;
};

/// Calls `use` with each tile of a source at all its levels, and then `after` with the planes of
/// the level above, of the tile alone.
void for_each_part(const PlaneSource& source, std::int64_t side,
                   const std::function<void(const TilePart& part)>& use,
                   const std::function<void(const Region& tile, const TilePart& above)>& after) {
  for_each_tile(source.size, {side, side}, [&](const Region& tile) {
    TilePart part;
    const Region seen = widened_by(tile, kMargin, kMargin, source.size);
    part.planes = source.planes(seen);
    for (int level = 0; level <= kLevelsAtOnce; ++level) {
      part.level = source.first + level;
      part.size = at_level(source.size, level);
      part.core = at_level(tile, level);
      part.near = widened_by(part.core, kBefore, kBehind, part.size);
      part.seen = at_level(seen, level);
      if (level == kLevelsAtOnce) return after(tile, part);
      use(part);
      for (torch::Tensor& planes : part.planes) {
        if (planes.defined()) planes = next_level(planes);
      }
    }
  });
}

/// A picture through its network.
class NetworkView {
public:
  NetworkView(const Model& model, ImageWindows& picture)
      : model_(model),
        picture_(picture),
        detects_(!model.options().detector.empty()),
        tiling_(model.options(), detects_ ? TiledResult::detection : TiledResult::reconstruction) {}

  bool detects() const { return detects_; }
  Size size() const { return picture_.size(); }
  /// What the file has in the window last looked at.
  torch::Tensor pixels(const Region& part) const { return part_of(pixels_, part, at_); }

  ViewPlanes look(const Region& seen) {
    at_ = tiling_.window(seen, picture_.size());
    pixels_ = picture_.read(at_);
    const torch::Tensor input = to_float(pixels_.unsqueeze(0), model_.device());
    const torch::Tensor reconstruction = model_.reconstruct(input);
    const auto cut = [&](const torch::Tensor& maps) {
      return part_of(maps[0], seen, at_).cpu().contiguous();
    };
    ViewPlanes planes;
    planes[kImage] = cut(input);
    planes[kResidual] = planes[kImage] - cut(reconstruction);
    if (detects_) planes[kDetected] = logits_of(cut(model_.detect(input, reconstruction)));
    return planes;
  }

  PlaneSource source() {
    return {0, size(), [this](const Region& seen) { return look(seen); }};
  }

private:
  const Model& model_;
  ImageWindows& picture_;
  bool detects_;
  Tiling tiling_;
  torch::Tensor pixels_;
  Region at_;
};

/// What a first pass finds out.
class FirstLook {
public:
  FirstLook(NetworkView& network, std::int64_t side, const std::function<void()>& tile_done)
      : size_(at_level(network.size(), kLevelsAtOnce)) {
    for (auto& view : sums_) view.fill(torch::zeros({kRawMaps}, torch::kDouble));
    for_each_part(
        network.source(), side,
        [&](const TilePart& part) { part.level == 0 ? add_pixels(part) : add_maps(part); },
        [&](const Region&, const TilePart& above) {
          keep(above);
          tile_done();
        });
    for_each_part(
        source(), side, [&](const TilePart& part) { add_maps(part); }, [](auto&&...) {});
  }

  double brightness() const { return sum_ / values_; }
  double mean_error() const { return errors_ / values_; }
  /// Of a view's raw maps at a level, (kRawMaps) float.
  torch::Tensor means(PlaneKind view, int level) const {
    return (sums_[view][static_cast<std::size_t>(level)] / static_cast<double>(areas_[level]))
        .to(torch::kFloat);
  }

  /// The levels that are not made of windows.
  PlaneSource source() const {
    return {kLevelsAtOnce, size_, [this](const Region& seen) {
              ViewPlanes planes;
              for (std::size_t view = 0; view < kViews; ++view) {
                if (kept_[view].defined()) planes[view] = part_of(kept_[view], seen, whole(size_));
              }
              return planes;
            }};
  }

private:
  void add_pixels(const TilePart& part) {
    const torch::Tensor image = part_of(part.planes[kImage], part.core, part.seen);
    const torch::Tensor residual = part_of(part.planes[kResidual], part.core, part.seen);
    sum_ += image.sum(torch::kDouble).item<double>();
    errors_ += residual.square().sum(torch::kDouble).item<double>();
    values_ += static_cast<double>(image.numel());
  }

  void add_maps(const TilePart& part) {
    const auto level = static_cast<std::size_t>(part.level);
    areas_[level] = part.size.area();
    for (const PlaneKind view : {kResidual, kImage}) {
      const torch::Tensor raw = part_of(raw_maps(part.planes[view]), part.core, part.seen);
      torch::Tensor& sums = sums_[view][level];  // not in place: all begin as one tensor
      sums = sums + raw.sum({1, 2}, /*keepdim=*/false, torch::kDouble);
    }
  }

  void keep(const TilePart& above) {
    for (std::size_t view = 0; view < kViews; ++view) {
      const torch::Tensor& planes = above.planes[view];
      if (!planes.defined()) continue;
      if (!kept_[view].defined()) kept_[view] = torch::empty({planes.size(0), size_.h, size_.w});
      part_of(kept_[view], above.core, whole(size_)).copy_(part_of(planes, above.core, above.seen));
    }
  }

  Size size_;  // of the first level that is kept
  double sum_ = 0, errors_ = 0, values_ = 0;
  std::array<std::array<torch::Tensor, kLevelsEnd>, kViews> sums_;  // (kRawMaps) double, by level
  std::array<std::int64_t, kLevelsEnd> areas_{};
  ViewPlanes kept_;
};

/// The mean of the highest values of a map that comes in parts.
class Highest {
public:
  /// Of a map of so many pixels, one of `maps`.
  Highest(std::int64_t pixels, std::int64_t maps)
      : count_(static_cast<std::size_t>(AnomalyScorer::values_of_a_peak(pixels, maps))) {}

  void add(const torch::Tensor& map) {
    const torch::Tensor values = map.contiguous();
    const auto* from = values.const_data_ptr<float>();
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      if (from[i] <= least_) continue;
      values_.push_back(from[i]);
      if (values_.size() == 2 * count_ + kRoom) keep_highest();
    }
  }

  double mean() {
    keep_highest();
    std::ranges::sort(values_, std::greater<>());
    return std::accumulate(values_.begin(), values_.end(), 0.0) /
           static_cast<double>(values_.size());
  }

private:
  static constexpr std::size_t kRoom = 1024;

  void keep_highest() {
    if (values_.size() <= count_) return;
    const auto end = values_.begin() + static_cast<std::ptrdiff_t>(count_);
    std::ranges::nth_element(values_, end - 1, std::greater<>());
    values_.erase(end, values_.end());
    least_ = values_.back();
  }

  std::size_t count_;
  std::vector<float> values_;
  float least_ = -std::numeric_limits<float>::infinity();  // below it is none of them
};

/// The second pass: peaks and heat.
class SecondLook {
public:
  SecondLook(NetworkView& network, const FirstLook& first, const AnomalyScorer& scorer,
             bool wants_heat)
      : network_(network),
        first_look_(first),
        scorer_(scorer),
        wants_heat_(wants_heat),
        highest_(scorer.scales().size()) {}

  AnomalyScorer::Scores run(std::int64_t side, const TiledScoring& following,
                            const std::function<void()>& tile_done) {
    for_each_part(
        first_look_.source(), side,
        [&](const TilePart& part) { keep_heat(part, look(part, part.core)); }, [](auto&&...) {});
    Region tile;
    for_each_part(
        network_.source(), side,
        [&](const TilePart& part) {
          if (part.level == 0) return begin_heat(tile = part.core);
          const torch::Tensor share = look(part, part.near);
          if (share.defined()) add_heat(share, part.near, part.size, tile);
        },
        [&](const Region& done, const TilePart&) {
          if (wants_heat_) following.use_heat(done, network_.pixels(done), finished_heat(done));
          tile_done();
        });
    std::vector<torch::Tensor> peaks;
    for (auto& of_map : highest_) {
      std::vector<double> means;
      for (Highest& values : of_map) means.push_back(values.mean());
      peaks.push_back(torch::tensor(means, torch::kDouble));
    }
    return scorer_.score_by_peaks(peaks);
  }

private:
  /// Where a map stands among all of an image's.
  std::size_t index_of(PlaneKind view, int level) const {
    const std::size_t before = view == kImage && !network_.detects() ? kDetected : view;
    return before * kPyramidLevels + static_cast<std::size_t>(level - kFirstLevel);
  }

  /// Notes what stands out in a part, and returns what it has of heat at `near`; not defined where
  /// that is nothing.
  torch::Tensor look(const TilePart& part, const Region& near) {
    const Size size = network_.size();
    Places places(part.size, size, part.level);
    places.rows = places.rows.slice(0, near.rows.begin, near.rows.end);
    places.columns = places.columns.slice(0, near.columns.begin, near.columns.end);
    torch::Tensor heat;
    for (const PlaneKind view : {kResidual, kDetected, kImage}) {
      if (!part.planes[view].defined()) continue;
      const std::size_t index = index_of(view, part.level);
      const torch::Tensor& scale = scorer_.scales()[index];
      const torch::Tensor maps =
          both_ends(PlaceStatistics::standardise(maps_of(part, view, near), places, scale));
      auto& highest = highest_[index];
      if (highest.empty()) {
        highest.assign(static_cast<std::size_t>(maps.size(0)),
                       Highest(part.size.area(), scale.size(1)));
      }
      const torch::Tensor own = part_of(maps, part.core, near);
      for (std::int64_t i = 0; i < own.size(0); ++i) {
        highest[static_cast<std::size_t>(i)].add(own[i]);
      }
      if (!wants_heat_) continue;
      const torch::Tensor share =
          scorer_.heat_map(AnomalyScorer::kAll).share_of(maps, first_of(index));
      if (share.defined()) heat = heat.defined() ? heat + share : share;
    }
    return heat;
  }

  LevelMaps maps_of(const TilePart& part, PlaneKind view, const Region& near) const {
    const torch::Tensor& planes = part.planes[view];
    if (view == kDetected) return {part_of(planes, near, part.seen), torch::ones({1})};
    return {part_of(raw_maps(planes), near, part.seen),
            texture_gains(first_look_.means(view, part.level), first_look_.brightness())};
  }

  /// How many standardised maps come before those of that index.
  std::int64_t first_of(std::size_t index) const {
    std::int64_t first = 0;
    for (std::size_t i = 0; i < index; ++i) first += peak_count(scorer_.scales()[i].size(1));
    return first;
  }

  void keep_heat(const TilePart& part, const torch::Tensor& share) {
    if (!share.defined()) return;
    torch::Tensor& kept = kept_heat_[static_cast<std::size_t>(part.level)];
    if (!kept.defined()) kept = torch::zeros(per_axis(part.size));
    part_of(kept, part.core, whole(part.size)).copy_(share);
  }

  void begin_heat(const Region& tile) {
    if (!wants_heat_) return;
    heat_ = scorer_.heat_map(AnomalyScorer::kAll).bias.expand(per_axis(tile.size())).clone();
  }

  void add_heat(const torch::Tensor& share, const Region& known, Size level, const Region& tile) {
    heat_ += resize_part(share, known, level, tile, network_.size());
  }

  torch::Tensor finished_heat(const Region& tile) {
    for (const torch::Tensor& kept : kept_heat_) {
      if (!kept.defined()) continue;
      const Size level{kept.size(0), kept.size(1)};
      add_heat(kept, whole(level), level, tile);
    }
    return heat_.clamp_(0, HeatMap::kMost);
  }

  NetworkView& network_;
  const FirstLook& first_look_;
  const AnomalyScorer& scorer_;
  bool wants_heat_;
  std::vector<std::vector<Highest>> highest_;        // of each map's channels
  std::array<torch::Tensor, kLevelsEnd> kept_heat_;  // of levels that are not made of windows
  torch::Tensor heat_;                               // of a tile
};

}  // namespace

std::int64_t score_tile_side(std::int64_t side) {
  return (side + kStepOfSide - 1) / kStepOfSide * kStepOfSide;
}

TiledScore score_in_tiles(const Model& model, const AnomalyScorer& scorer, ImageWindows& picture,
                          std::int64_t side, const TiledScoring& following) {
  const torch::NoGradGuard no_grad;
  const std::int64_t whole_side = score_tile_side(side);
  const std::int64_t all = 2 * tile_count(picture.size(), {whole_side, whole_side});
  std::int64_t done = 0;
  const auto tile_done = [&] { following.tile_done(++done, all); };
  NetworkView network(model, picture);
  const FirstLook first(network, whole_side, tile_done);
  const bool wants_heat = static_cast<bool>(following.use_heat);
  SecondLook look(network, first, scorer, wants_heat);
  return {look.run(whole_side, following, tile_done), first.mean_error()};
}

}  // namespace convae
