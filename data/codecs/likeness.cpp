#include "convae/data/codecs/likeness.h"

#include "convae/data/picture_file.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace convae {
namespace codec {

std::vector<std::uint8_t> upright_exif(Bytes exif) {
  constexpr std::size_t kEntry = 12, kOrientation = 0x0112;
  constexpr std::size_t kXResolution = 0x011A, kYResolution = 0x011B;
  std::vector<std::uint8_t> upright(exif.begin(), exif.end());
  const std::size_t start = exif.size() > 6 && exif[0] == 'E' ? 6 : 0;  // after "Exif\0\0"
  const Bytes tiff = exif.subspan(std::min(start, exif.size()));
  if (tiff.size() < 10) return upright;
  const auto order = tiff[0] == 'I' ? std::endian::little : std::endian::big;
  const std::size_t directory = number_at(tiff, 4, 4, order);
  if (directory > tiff.size() - 2) return upright;
  const std::size_t entries = number_at(tiff, directory, 2, order);
  std::size_t across = 0, down = 0;  // the entries of the resolution
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t at = directory + 2 + i * kEntry;
    if (at + kEntry > tiff.size()) break;
    const std::size_t tag = number_at(tiff, at, 2, order);
    if (tag == kXResolution) across = start + at;
    if (tag == kYResolution) down = start + at;
    if (tag != kOrientation) continue;
    const int bytes = number_at(tiff, at + 2, 2, order) == 4 ? 4 : 2;  // LONG or SHORT
    for (int b = 0; b < bytes; ++b) {
      const bool is_lowest = order == std::endian::little ? b == 0 : b == bytes - 1;
      upright[start + at + 8 + b] = is_lowest ? 1 : 0;
    }
  }
  if (across > 0 && down > 0 && turns_sideways(exif_orientation(exif))) {  // all but their tags
    std::swap_ranges(&upright[across + 2], &upright[across] + kEntry, &upright[down + 2]);
  }
  return upright;
}

std::vector<std::uint8_t> nearest_colours(const torch::Tensor& pixels, const Palette& palette) {
  const std::int64_t channels = pixels.size(2), count = pixels.numel() / channels;
  const bool has_alpha = channels % 2 == 0;
  const auto* from = pixels.const_data_ptr<std::uint8_t>();
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(count));
  std::unordered_map<std::uint32_t, std::uint8_t> known;
  for (std::int64_t i = 0; i < count; ++i, from += channels) {
    std::array<int, 4> colour{from[0], from[channels < 3 ? 0 : 1], from[channels < 3 ? 0 : 2],
                              has_alpha ? from[channels - 1] : 255};
    std::uint32_t key = 0;
    for (const int part : colour) key = key << 8 | static_cast<std::uint32_t>(part);
    const auto [place, is_new] = known.try_emplace(key);
    if (is_new) {
      constexpr int kOtherAlpha = 1 << 20;  // more than any difference of colours
      int least = std::numeric_limits<int>::max();
      for (std::size_t p = 0; p < palette.size(); ++p) {
        int distance = palette[p][3] == colour[3] ? 0 : kOtherAlpha;
        for (std::size_t c = 0; c < 4; ++c) {
          distance += (palette[p][c] - colour[c]) * (palette[p][c] - colour[c]);
        }
        if (distance >= least) continue;
        least = distance;
        place->second = static_cast<std::uint8_t>(p);
      }
    }
    indices[static_cast<std::size_t>(i)] = place->second;
  }
  return indices;
}

}  // namespace codec

namespace {

/// `image` (H, W, C) in [0,1] in the numbers of `original`: (H, W, `colours`), and the alpha of
/// `rgba` where that is defined. A plain loop: it runs on threads that must not start others.
template <typename Number>
torch::Tensor in_numbers(const torch::Tensor& image, std::int64_t colours, const ValueRange& range,
                         const torch::Tensor& rgba, const ImageInfo& original) {
  constexpr bool is_whole = std::is_integral_v<Number>;
  constexpr double white = is_whole ? double(std::numeric_limits<Number>::max()) : 1;
  const double low = range.is_fixed() ? range.low : 0;
  const double scale = range.is_fixed() ? range.high - range.low : white;
  // Where 0 is white, numbers are inverted at the end, those with alpha after they are put on
  // white.
  const double inverted = is_whole ? white : 2 * low + scale;
  const double least = original.white_is_zero ? inverted - low - scale : low;
  const std::int64_t channels = image.size(2), samples = colours + (rgba.defined() ? 1 : 0);
  const torch::Tensor numbers =
      at::empty({image.size(0), image.size(1), samples}, c10::CppTypeToScalarType<Number>::value);
  const auto* from = image.const_data_ptr<float>();
  const auto* alpha =
      rgba.defined() ? static_cast<const Number*>(rgba.const_data_ptr()) + 3 : nullptr;
  auto* to = static_cast<Number*>(numbers.data_ptr());
  const std::int64_t pixels = image.size(0) * image.size(1);
  for (std::int64_t i = 0; i < pixels; ++i, from += channels, to += samples) {
    for (std::int64_t c = 0; c < colours; ++c) {
      const double share =
          colours == channels ? from[c] : 0.299 * from[0] + 0.587 * from[1] + 0.114 * from[2];
      double number = least + share * scale;
      if (alpha != nullptr) {  // the image is what shows on white
        const double opacity = alpha[4 * i] / white;
        const double own = number - white * (1 - opacity);
        number = original.premultiplied ? own : opacity > 0 ? own / opacity : number;
      }
      if (is_whole) number = std::round(std::clamp(number, 0.0, white));
      to[c] = static_cast<Number>(original.white_is_zero ? inverted - number : number);
    }
    if (alpha != nullptr) to[colours] = alpha[4 * i];
  }
  return numbers;
}

auto numbers_for(int bits) {
  return bits == 32   ? in_numbers<double>
         : bits == 16 ? in_numbers<std::uint16_t>
                      : in_numbers<std::uint8_t>;
}

}  // namespace

torch::Tensor in_file_numbers(const torch::Tensor& image, const ImageInfo& original,
                              const ValueRange& range) {
  const torch::Tensor rows = image.permute({1, 2, 0}).contiguous();
  const auto colours = std::min<std::int64_t>(rows.size(2), original.channels);
  const torch::Tensor numbers =
      numbers_for(original.bits)(rows, colours, range, /*rgba=*/{}, original);
  return numbers.to(numbers_type(original)).permute({2, 0, 1});
}

std::vector<std::uint8_t> encode_like(const torch::Tensor& image, codec::Bytes original,
                                      std::int64_t max_pixels, const ValueRange& range,
                                      std::vector<std::string>& lost) {
  const codec::Codec& codec = codec::codec_for(original);
  const ImageInfo info = codec.probe(original, max_pixels);
  Size own{info.height, info.width};
  if (turns_sideways(info.orientation)) std::swap(own.h, own.w);
  if (own != Size{image.size(1), image.size(2)}) {
    throw ImageError("its size changed since it was listed");
  }
  const torch::Tensor rows = image.permute({1, 2, 0}).contiguous();
  const bool same_colours = rows.size(2) == 3 || info.channels == 1;
  if (!same_colours) lost.emplace_back("its colours (the model is grey)");
  const std::int64_t colours = std::min<std::int64_t>(rows.size(2), info.channels);
  torch::Tensor rgba;
  if (info.alpha) {
    const auto decoded = codec.decode(original, /*channels=*/4, max_pixels, range);
    rgba = codec::oriented(decoded.pixels, info.orientation);
  }
  const codec::Original after{original, info, lost, same_colours};
  return codec.encode(numbers_for(info.bits)(rows, colours, range, rgba, info), &after);
}

}  // namespace convae
