#include "convae/evaluation/jpeg_size.h"

#include "convae/data/codecs/codecs.h"

#include <algorithm>
#include <cstdlib>

namespace convae {
namespace {

constexpr int kLowestQuality = 1, kHighestQuality = 100;
constexpr int kAround = 3;

/// Where the entropy-coded data begin: after the segment SOS. All segments before it but the first
/// marker have a length (ITU-T T.81, section B.1.1.4).
std::int64_t header_bytes(const std::vector<std::uint8_t>& file) {
  constexpr std::uint8_t kStartOfScan = 0xda;
  std::size_t at = 2;
  while (at + 4 <= file.size()) {
    const std::uint8_t marker = file[at + 1];
    at += 2 + static_cast<std::size_t>(file[at + 2] << 8 | file[at + 3]);
    if (marker == kStartOfScan) break;
  }
  return static_cast<std::int64_t>(at);
}

SizedJpeg encode_at(const torch::Tensor& rows, int quality) {
  constexpr std::int64_t kEndMarker = 2;
  SizedJpeg jpeg{codec::encode_jpeg_at(rows, quality), quality, 0};
  jpeg.picture_bytes = std::ssize(jpeg.file) - header_bytes(jpeg.file) - kEndMarker;
  return jpeg;
}

}  // namespace

SizedJpeg encode_jpeg_near(const torch::Tensor& image, std::int64_t bytes) {
  const torch::Tensor rows = codec::to_8_bits(codec::to_rows(image));
  int below = kLowestQuality - 1, above = kHighestQuality;
  while (above - below > 1) {
    const int middle = (below + above) / 2;
    (encode_at(rows, middle).picture_bytes < bytes ? below : above) = middle;
  }
  // A little more quality may take a little less: those around are tried.
  const int first = std::max(above - kAround, kLowestQuality);
  const int last = std::min(above + kAround, kHighestQuality);
  const auto distance = [&](const SizedJpeg& jpeg) { return std::abs(jpeg.picture_bytes - bytes); };
  SizedJpeg nearest = encode_at(rows, first);
  for (int quality = first + 1; quality <= last; ++quality) {
    SizedJpeg jpeg = encode_at(rows, quality);
    if (distance(jpeg) < distance(nearest)) nearest = std::move(jpeg);
  }
  return nearest;
}

torch::Tensor decode_jpeg(const SizedJpeg& jpeg, std::int64_t channels) {
  return decode_image(jpeg.file, static_cast<int>(channels), kAnyArea);
}

}  // namespace convae
