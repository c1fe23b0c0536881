#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace convae {

/// A JPEG file made to a wanted size.
struct SizedJpeg {
  std::vector<std::uint8_t> file;
  int quality = 0;  ///< 1 to 100
  /// Bytes of `file` that depend on what is in the picture. The others, headers and tables, are the
  /// same for all pictures of one size and quality.
  std::int64_t picture_bytes = 0;
};

/// Longest side that a JPEG can have.
inline constexpr std::int64_t kMaxJpegSide = 65'500;

/// Encodes (C, H, W) with C 1 or 3, uint8 or uint16 (scaled to 8 bits), at the quality at which
/// picture_bytes come nearest to `bytes`; colour at half the resolution (4:2:0, as JPEG files at
/// low rates have it). Throws ImageError where a side is above kMaxJpegSide.
SizedJpeg encode_jpeg_near(const torch::Tensor& image, std::int64_t bytes);

}  // namespace convae
