#pragma once

// What a new file takes over from the one it was made after.

#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/pixel_rows.h"

#include <string>
#include <vector>

namespace convae::codec {

/// A file to take after. `lost` gets what cannot be taken over, such as "XMP".
struct Original {
  Bytes bytes;
  ImageInfo info;
  std::vector<std::string>& lost;
  /// A colour profile fits only as many channels as it was made for.
  bool same_colours = true;
};

/// EXIF data with orientation 1: the pixels beside it are upright. So is the resolution.
std::vector<std::uint8_t> upright_exif(Bytes exif);

/// The colour of `palette` nearest to each pixel of (H, W, C), C 1 to 4 and uint8; where there is
/// alpha, of the colours that have the pixel's. (H, W) indices.
std::vector<std::uint8_t> nearest_colours(const torch::Tensor& pixels, const Palette& palette);

}  // namespace convae::codec
