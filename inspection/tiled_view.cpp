#include "convae/inspection/tiled_view.h"

#include "convae/inference/tiles.h"
#include "convae/inspection/views.h"
#include "convae/models/pixels.h"
#include "convae/models/tiling.h"

#include <algorithm>
#include <array>
#include <vector>

namespace convae {
namespace {

/// Levels that are made of one window: it needs a margin for the coarsest of them.
constexpr int kLevelsAtOnce = 3;
constexpr std::int64_t kBefore = 1, kBehind = 2;  // pixels of a level, for resize_along()
/// So far beyond a tile, and to a pixel of the first level that is kept.
constexpr std::int64_t kMargin = 56;
static_assert(kMargin >= (kTextureReach + kBehind) << (kLevelsAtOnce - 1));
static_assert(kMargin % (1 << kLevelsAtOnce) == 0);
/// Tiles begin at pixels of the first level that is kept.
static_assert(kFirstLevel == 1);  // level 0 is the picture itself
constexpr std::int64_t kStepOfSide = 1 << kLevelsAtOnce;

Region part_at_level(const Region& part, int level) {
  const auto along = [&](Span s) { return Span{s.begin >> level, at_level(s.end, level)}; };
  return {along(part.rows), along(part.columns)};
}

Region widened_by(const Region& part, std::int64_t before, std::int64_t behind, Size size) {
  const auto along = [&](Span s, std::int64_t length) {
    return Span{std::max<std::int64_t>(0, s.begin - before), std::min(s.end + behind, length)};
  };
  return {along(part.rows, size.h), along(part.columns, size.w)};
}

/// The place of `part` in maps of `seen`.
torch::Tensor part_of(const torch::Tensor& maps, const Region& part, const Region& seen) {
  return cut(maps, part.within(seen));
}

/// A map (h, w) that upsample_bilinear2d makes longer along an axis, from `from` to `size`, at
/// `part` of the result. Of the map there is what begins at `first`.
torch::Tensor resize_along(std::int64_t axis, const torch::Tensor& map, std::int64_t first,
                           std::int64_t from, Span part, std::int64_t size) {
  const float scale = static_cast<float>(from) / static_cast<float>(size);
  const torch::Tensor at =
      ((torch::arange(part.begin, part.end, torch::kFloat) + 0.5F) * scale - 0.5F).clamp_min(0);
  const torch::Tensor floor = at.floor().clamp_max(static_cast<double>(from - 1));
  const torch::Tensor lower = floor.to(torch::kLong) - first;
  const torch::Tensor upper = (lower + 1).clamp_max(from - 1 - first);
  return torch::lerp(map.index_select(axis, lower), map.index_select(axis, upper),
                     (at - floor).unsqueeze(1 - axis));
}

/// (C, h, w) float of each view, in the order of an image's maps: the residual, what a detector
/// says and the image.
using Planes = std::vector<torch::Tensor>;

/// A tile at one of the levels.
struct TilePart {
  int level = 0;
  Size size;                ///< of the level's whole map
  Region core, near, seen;  ///< the tile; with what its heat needs; with all that `planes` has
  Planes planes;
};

/// A picture on both passes through the network.
class PictureInTiles {
public:
  PictureInTiles(const Model& model, const AnomalyScorer& scorer, ImageWindows& picture,
                 std::int64_t side, const TiledScoring& following)
      : model_(model),
        scorer_(scorer),
        picture_(picture),
        following_(following),
        size_(picture.size()),
        side_(side),
        detects_(!model.options().detector.empty()),
        tiling_(model.options(), detects_ ? TiledResult::detection : TiledResult::reconstruction) {
    for (const torch::Tensor& scale : scorer.scales()) {
      peaks_.emplace_back(at_level(size_, level_of(peaks_.size())).area(), scale.size(1));
      sums_.push_back(torch::zeros({kRawMaps}, torch::kDouble));
    }
  }

  TiledScore score() {
    const auto nothing = [](const TilePart&) {};
    for_each_part(
        0, [&](const TilePart& part) { part.level == 0 ? add_pixels(part) : add_maps(part); },
        [&](const TilePart& above) {
          keep(above);
          tell_of_tile();
        });
    for_each_part(
        kLevelsAtOnce, [&](const TilePart& part) { add_maps(part); }, nothing);
    for_each_part(
        kLevelsAtOnce, [&](const TilePart& part) { keep_heat(part, look(part)); }, nothing);
    for_each_part(
        0,
        [&](const TilePart& part) {
          if (part.level == 0) return begin_heat(part.core);
          const torch::Tensor share = look(part);
          if (share.defined()) add_heat(share, part.near, part.size);
        },
        [&](const TilePart&) {
          finish_heat();
          tell_of_tile();
        });
    std::vector<torch::Tensor> peaks;
    for (Peaks& of_maps : peaks_) peaks.push_back(of_maps.means());
    return {scorer_.score_by_peaks(peaks), errors_ / values_};
  }

private:
  /// Calls `use` with each tile at kLevelsAtOnce levels from `first` on, and then `after` with the
  /// planes of the level above: the picture's tiles from 0 on, those of what was kept from
  /// kLevelsAtOnce on.
  template <typename Use, typename After>
  void for_each_part(int first, const Use& use, const After& after) {
    const Size size = at_level(size_, first);
    for_each_tile(size, {side_, side_}, [&](const Region& tile) {
      TilePart part;
      const Region seen = widened_by(tile, kMargin, kMargin, size);
      part.planes = first == 0 ? planes_of(seen) : kept_planes(seen);
      for (int level = 0;; ++level) {
        part.level = first + level;
        part.size = at_level(size, level);
        part.core = part_at_level(tile, level);
        part.near = first == 0 ? widened_by(part.core, kBefore, kBehind, part.size) : part.core;
        part.seen = part_at_level(seen, level);
        if (level == kLevelsAtOnce) return after(part);
        use(part);
        for (torch::Tensor& planes : part.planes) planes = next_level(planes);
      }
    });
  }

  void tell_of_tile() {
    following_.tile_done(++tiles_done_, 2 * tile_count(size_, {side_, side_}));
  }

  /// Of the picture and what the network leaves of it.
  Planes planes_of(const Region& seen) {
    at_ = tiling_.window(seen, size_);
    pixels_ = picture_.read(at_);
    const torch::Tensor input = to_float(pixels_.unsqueeze(0), model_.device());
    const torch::Tensor reconstruction = model_.reconstruct(input);
    const auto seen_of = [&](const torch::Tensor& maps) {
      return part_of(maps[0], seen, at_).cpu().contiguous();
    };
    const torch::Tensor image = seen_of(input);
    Planes planes = {image - seen_of(reconstruction)};
    if (detects_) planes.push_back(logits_of(seen_of(model_.detect(input, reconstruction))));
    planes.push_back(image);
    return planes;
  }

  Planes kept_planes(const Region& seen) const {
    Planes planes;
    for (const torch::Tensor& kept : kept_) planes.push_back(cut(kept, seen));
    return planes;
  }

  void add_pixels(const TilePart& part) {
    const torch::Tensor residual = part_of(part.planes.front(), part.core, part.seen);
    const torch::Tensor image = part_of(part.planes.back(), part.core, part.seen);
    brightness_ += image.sum(torch::kDouble).item<double>();
    errors_ += residual.square().sum(torch::kDouble).item<double>();
    values_ += static_cast<double>(image.numel());
  }

  void add_maps(const TilePart& part) {
    for (std::size_t view = 0; view < part.planes.size(); ++view) {
      const std::size_t index = index_of(view, part.level);
      if (!has_textures(index)) continue;
      const torch::Tensor raw = part_of(raw_maps(part.planes[view]), part.core, part.seen);
      sums_[index] += raw.sum({1, 2}, /*keepdim=*/false, torch::kDouble);
    }
  }

  void keep(const TilePart& above) {
    for (std::size_t view = 0; view < above.planes.size(); ++view) {
      const torch::Tensor planes = part_of(above.planes[view], above.core, above.seen);
      if (kept_.size() == view) {
        kept_.push_back(torch::empty({planes.size(0), above.size.h, above.size.w}));
      }
      cut(kept_[view], above.core).copy_(planes);
    }
  }

  /// Notes what stands out in a part, and returns what `near` has of heat; not defined where that
  /// is nothing.
  torch::Tensor look(const TilePart& part) {
    Places places(size_, part.level);
    places.rows = places.rows.slice(0, part.near.rows.begin, part.near.rows.end);
    places.columns = places.columns.slice(0, part.near.columns.begin, part.near.columns.end);
    torch::Tensor heat;
    for (std::size_t view = 0; view < part.planes.size(); ++view) {
      const std::size_t index = index_of(view, part.level);
      const LevelMaps seen = maps_of(part, part.planes[view], index);
      const torch::Tensor maps =
          both_ends(PlaceStatistics::standardise(seen, places, scorer_.scales()[index]));
      peaks_[index].add(part_of(maps, part.core, part.near));
      if (!following_.use_heat) continue;
      const torch::Tensor share = heat_map().share_of(maps, scorer_.features_before(index));
      if (share.defined()) heat = heat.defined() ? heat + share : share;
    }
    return heat;
  }

  /// Those of `near`.
  LevelMaps maps_of(const TilePart& part, const torch::Tensor& planes, std::size_t index) const {
    if (!has_textures(index)) return {part_of(planes, part.near, part.seen), torch::ones({1})};
    const torch::Tensor means = sums_[index] / static_cast<double>(part.size.area());
    return {part_of(raw_maps(planes), part.near, part.seen),
            texture_gains(means.to(torch::kFloat), brightness_ / values_)};
  }

  /// Where the maps of a view are among all of an image's.
  static std::size_t index_of(std::size_t view, int level) {
    return view * kPyramidLevels + static_cast<std::size_t>(level - kFirstLevel);
  }

  bool has_textures(std::size_t index) const {
    return scorer_.scales()[index].size(1) == kTextureMaps;
  }

  const HeatMap& heat_map() const { return scorer_.heat_map(kNetwork); }

  void keep_heat(const TilePart& part, const torch::Tensor& share) {
    if (!share.defined()) return;
    torch::Tensor& kept = kept_heat_[static_cast<std::size_t>(part.level)];
    if (!kept.defined()) kept = torch::zeros(per_axis(part.size));
    cut(kept, part.core).copy_(share);
  }

  void begin_heat(const Region& tile) {
    tile_ = tile;
    if (following_.use_heat) heat_ = heat_map().bias.expand(per_axis(tile.size())).clone();
  }

  void add_heat(const torch::Tensor& share, const Region& known, Size level) {
    const torch::Tensor across =
        resize_along(1, share, known.columns.begin, level.w, tile_.columns, size_.w);
    heat_ += resize_along(0, across, known.rows.begin, level.h, tile_.rows, size_.h);
  }

  void finish_heat() {
    if (!following_.use_heat) return;
    for (const torch::Tensor& kept : kept_heat_) {
      if (!kept.defined()) continue;
      const Size level{kept.size(0), kept.size(1)};
      add_heat(kept, whole(level), level);
    }
    following_.use_heat(tile_, part_of(pixels_, tile_, at_), heat_.clamp_(0, HeatMap::kMost));
  }

  const Model& model_;
  const AnomalyScorer& scorer_;
  ImageWindows& picture_;
  const TiledScoring& following_;
  Size size_;
  std::int64_t side_, tiles_done_ = 0;
  bool detects_;
  Tiling tiling_;
  Region at_, tile_;      // the window last looked at, and its tile
  torch::Tensor pixels_;  // what the file has in that window
  // From the first pass: sums over the picture and over each of its maps, and planes of the level
  // kLevelsAtOnce.
  double brightness_ = 0, errors_ = 0, values_ = 0;
  std::vector<torch::Tensor> sums_;  // (kRawMaps) double
  Planes kept_;
  // Of the second: peaks of each of its maps, and heat of the levels above and of a tile.
  std::vector<Peaks> peaks_;
  std::array<torch::Tensor, kLevelsEnd> kept_heat_;
  torch::Tensor heat_;
};

}  // namespace

std::int64_t score_tile_side(std::int64_t side) {
  return (side + kStepOfSide - 1) / kStepOfSide * kStepOfSide;
}

TiledScore score_in_tiles(const Model& model, const AnomalyScorer& scorer, ImageWindows& picture,
                          std::int64_t side, const TiledScoring& following) {
  const torch::NoGradGuard no_grad;
  return PictureInTiles(model, scorer, picture, score_tile_side(side), following).score();
}

}  // namespace convae
