#include "convae/reporting/thumbnails.h"

#include "convae/core/files.h"
#include "convae/data/image_io.h"
#include "convae/data/pictures.h"
#include "convae/training/sample_pictures.h"

#include <algorithm>
#include <string_view>

namespace convae {
namespace {

constexpr int kThumbnailQuality = 80;  // of JPEG: half the bytes of 95

std::string base64(const std::vector<std::uint8_t>& bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? bytes[i + k] : 0U);
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

std::string thumbnail(const torch::Tensor& shown, Size own) {
  using torch::indexing::None;
  using torch::indexing::Slice;
  const std::int64_t factor = shown.size(1) / own.h;
  torch::Tensor image = shown;
  if (factor > 1) image = shown.index({Slice(), Slice(0, None, factor), Slice(0, None, factor)});
  const Size size = shown_size({image.size(1), image.size(2)}, kThumbnailSide);
  if (size.h < image.size(1) || size.w < image.size(2)) image = resize_image(image, size.h, size.w);
  // Pages show small images enlarged, where a JPEG's blocks would be seen.
  if (factor > 1) return "data:image/png;base64," + base64(encode_image(image, ImageFormat::png));
  return "data:image/jpeg;base64," + base64(encode_small_jpeg(image, kThumbnailQuality));
}

}  // namespace

std::vector<ThumbnailRow> cut_sample(const std::filesystem::path& picture,
                                     const std::vector<Size>& sizes) {
  std::vector<Size> shown;
  shown.reserve(sizes.size());
  for (const Size& size : sizes) shown.push_back(shown_size(size, kMaxSampleSide));
  const torch::Tensor pixels = decode_image(read_file(picture), /*channels=*/3);
  std::vector<ThumbnailRow> rows;
  for (const auto& parts : take_apart(pixels, shown)) {
    const Size own = sizes[rows.size()];
    rows.push_back({thumbnail(parts[0], own), thumbnail(parts[1], own), thumbnail(parts[2], own)});
  }
  return rows;
}

}  // namespace convae
