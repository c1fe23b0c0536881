#pragma once

#include "convae/core/tensor.h"

#include <cstdint>
#include <vector>

namespace convae {

/// A JPEG file of about a given size.
struct SizedJpeg {
  std::vector<std::uint8_t> file;
  int quality = 0;  ///< 1 to 100
  /// Bytes of `file` that depend on the picture, without headers and tables, which are the same for
  /// all pictures of one size and quality.
  std::int64_t picture_bytes = 0;
};

/// Longest side that a JPEG can have.
inline constexpr std::int64_t kMaxJpegSide = 65'500;

/// Encodes (C, H, W) with C 1 or 3, uint8 or uint16 (scaled to 8 bits), at the quality whose
/// picture_bytes come nearest to `bytes`; colour at half the resolution (4:2:0, usual at low
/// rates). Throws ImageError where a side is above kMaxJpegSide.
SizedJpeg encode_jpeg_near(const torch::Tensor& image, std::int64_t bytes);

/// Its picture, (channels, H, W) uint8, of any size.
torch::Tensor decode_jpeg(const SizedJpeg& jpeg, std::int64_t channels);

}  // namespace convae
