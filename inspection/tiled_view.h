#pragma once

#include "convae/data/windows.h"
#include "convae/inference/model.h"
#include "convae/inspection/scorer.h"

#include <cstdint>
#include <functional>

namespace convae {

/// What becomes of a picture that is scored in tiles.
struct TiledScore {
  AnomalyScorer::Scores scores{};
  double mean_error = 0;  ///< mean squared error of the reconstruction
};

/// How a caller follows it.
struct TiledScoring {
  /// Called with each tile of the picture, row by row: its pixels (C, h, w) as the file has them,
  /// and its heat map (h, w) by all maps, see HeatMap. May be empty.
  std::function<void(const Region& tile, const torch::Tensor& pixels, const torch::Tensor& heat)>
      use_heat;
  /// Called with how many of how many tiles are done; may throw to stop.
  std::function<void(std::int64_t done, std::int64_t total)> tile_done;
};

/// Scores a picture that is not in memory as a whole. All it looks at is what there is in the whole
/// picture, but for rounding: tiles have margins as wide as the network and the maps see, and
/// means and highest values are those over all tiles. Two passes through the network: the first for
/// the means that maps are divided by. Levels 1 and 2 of the pyramids come from the tiles, those
/// above from the picture and what the network leaves of it at an eighth of the size, which are
/// kept. `side`: of the tiles, in pixels. Throws ImageError where the picture cannot be read.
TiledScore score_in_tiles(const Model& model, const AnomalyScorer& scorer, ImageWindows& picture,
                          std::int64_t side, const TiledScoring& following);

/// The side that tiles have then: a little more, as pyramids begin every so many pixels.
std::int64_t score_tile_side(std::int64_t side);

}  // namespace convae
