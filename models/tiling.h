#pragma once

#include "convae/core/region.h"
#include "convae/core/tensor.h"
#include "convae/models/options.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

/// How much of a picture a network must see to give a part of its result as it would from the whole
/// picture: integers only.
///
/// A window of a picture begins at a multiple of the product of all strides, so that every level
/// has its pixels at the same places as in the whole picture. Where the window ends before the
/// picture does, zeros stand for what follows, and what they reach is wrong: per axis, with span e,
/// a convolution makes of right positions [a, b)
///
///     convolution             [ceil((a + p) / s), floor((b - e + p) / s) + 1)
///     transposed convolution  [(a - 1)s + e - p, bs - p)
///
/// A linear path sees whole blocks, with which windows begin and end. At a picture's true border
/// nothing is lost. Around a tile so much is added that what is right covers it.
namespace convae {

/// A part of images or maps (…, H, W).
torch::Tensor cut(const torch::Tensor& images, const Region& part);

/// What is computed of a picture in tiles.
enum class TiledResult { latents, reconstruction, detection };

/// Why tiles of a picture cannot give what the whole picture does; nullopt where they can.
std::optional<std::string> why_not_in_tiles(const ModelOptions& options);

class Tiling {
public:
  /// Needs options without a reason in why_not_in_tiles().
  Tiling(const ModelOptions& options, TiledResult result);

  /// Windows begin at multiples of it.
  Size grid() const { return {vertical_.grid, horizontal_.grid}; }
  /// Pixels of the picture a side for one of the result: the product of strides for latents.
  Size scale() const { return {vertical_.scale, horizontal_.scale}; }

  /// The smallest window of a picture from which `part` of its result comes as from all of it.
  /// `part` counts in pixels of the result. The picture itself must be possible, see
  /// why_impossible().
  Region window(const Region& part, Size picture) const;

  /// Where the result of a window has `part`.
  Region place(const Region& part, const Region& window) const;

private:
  /// The network along one axis.
  struct AxisOfNet {
    std::vector<Axis> levels;               ///< convolutions of the encoder
    std::vector<std::int64_t> refinements;  ///< residual blocks of each
    bool shuffles = false, skips = false, is_linear = false;
    std::size_t detector_levels = 0;
    TiledResult result{};
    std::int64_t strides = 1;  ///< their product
    std::int64_t grid = 1, scale = 1;

    Span window(Span part, std::int64_t length) const;
    /// Which positions of the result are exact for that window of a picture of `length`; empty
    /// where the window cannot pass.
    Span right(Span window, std::int64_t length) const;
  };
  static AxisOfNet along(const ModelOptions& options, TiledResult result,
                         Axis (LevelSpec::*axis_of)() const);

  AxisOfNet vertical_, horizontal_;
};

}  // namespace convae
