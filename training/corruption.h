#pragma once

#include "convae/core/tensor.h"
#include "convae/data/effects.h"
#include "convae/training/defects.h"

#include <cstdint>
#include <vector>

namespace convae {

/// Fixes, together with an image's index, its corruption.
struct CorruptionRule {
  Effects corruptions;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;           ///< 0 in validation and reconstruction: always the same
  GoodPictures good_pictures = {};  ///< that drawn defects take pieces of
};

/// Corrupts the input of a network that learns to restore images: (N, C, H, W) float in [0,1] → the
/// same shape, on the images' device. `indices` are the N images' places in their data set. Returns
/// `images` themselves if there is nothing to do; never changes them.
///
/// `noise` and `shot` leave [0,1] and are not clipped: that would move the mean of dark and bright
/// areas, which a network cannot undo. What draws on the image or makes a file of it (`blemish`,
/// `defects`, `jpeg`, `shrink`) gives values in [0,1].
///
/// `shot` replaces each value x by n / P, where n is Poisson-distributed around x P, P being the
/// photons that white has; read noise of standard deviation r / P is added. `jpeg` encodes and
/// decodes 8 bits. `shrink` makes each side N times smaller (rounded, at least 1) by an area filter
/// and, bicubically, large again.
///
/// Squares of `cutout` and `grid` are mid-grey. A `blemish` is one to three defects, each a soft
/// spot, a scratch or a displaced patch of the image (as in CutPaste, Li et al. 2021,
/// https://arxiv.org/abs/2104.04015), lighter or darker by up to the amount. `defects`
/// draws one to three defects, see draw_defect(), on that share of the images.
///
/// `labels`, where not null, becomes (N, 1, H, W) in [0,1]: how much `defects` changed each pixel.
torch::Tensor corrupt(const torch::Tensor& images, const CorruptionRule& rule,
                      const std::vector<std::int64_t>& indices, torch::Tensor* labels = nullptr);

}  // namespace convae
