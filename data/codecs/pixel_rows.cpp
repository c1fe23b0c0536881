#include "convae/data/codecs/pixel_rows.h"

#include "convae/data/image_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <type_traits>

namespace convae::codec {
namespace {

template <typename Sample>
constexpr bool kIsFloat = std::is_floating_point_v<Sample>;

template <typename Sample>
constexpr Sample kWhite = kIsFloat<Sample> ? Sample{1} : std::numeric_limits<Sample>::max();

// All sums of whole numbers stay within 32 bits: 65535 * 65535 + 65535 / 2 < 2^32.
template <typename Sample>
using Sum = std::conditional_t<kIsFloat<Sample>, float, std::uint32_t>;

/// Alpha over white, for colour stored plain or already multiplied by alpha.
template <typename Sample>
Sum<Sample> over_white(Sum<Sample> value, Sum<Sample> alpha, bool premultiplied) {
  constexpr Sum<Sample> white = kWhite<Sample>;
  if (premultiplied) return std::min(white, value + (white - alpha));
  return (value * alpha + white * (white - alpha) + (kIsFloat<Sample> ? 0 : white / 2)) / white;
}

std::uint32_t luma(std::uint32_t red, std::uint32_t green, std::uint32_t blue) {
  return (299 * red + 587 * green + 114 * blue + 500) / 1000;
}

float luma(float red, float green, float blue) {
  return 0.299F * red + 0.587F * green + 0.114F * blue;
}

/// `colours` and `has_alpha` are template arguments so that each layout gets a plain inner loop.
template <typename Sample, int colours, bool has_alpha>
void convert(const Sample* from, bool premultiplied, std::int64_t count, Sample* to, int channels) {
  constexpr int step = colours + (has_alpha ? 1 : 0);
  for (std::int64_t pixel = 0; pixel < count; ++pixel, from += step, to += channels) {
    Sum<Sample> value[3];
    for (int c = 0; c < 3; ++c) {
      value[c] = from[c % colours];
      if constexpr (has_alpha) {
        if (channels < 4) value[c] = over_white<Sample>(value[c], from[colours], premultiplied);
      }
    }
    if (channels == 1) {
      to[0] = static_cast<Sample>(colours == 1 ? value[0] : luma(value[0], value[1], value[2]));
      continue;
    }
    std::copy(value, value + 3, to);
    if (channels == 4) to[3] = has_alpha ? from[colours] : kWhite<Sample>;
  }
}

}  // namespace

template <typename Sample>
void convert_pixels(const Sample* from, Layout layout, std::int64_t count, Sample* to,
                    int channels) {
  if (layout.colours + (layout.alpha ? 1 : 0) == channels) {
    std::copy_n(from, count * channels, to);
  } else if (layout.colours == 1) {
    (layout.alpha ? convert<Sample, 1, true>
                  : convert<Sample, 1, false>)(from, layout.premultiplied, count, to, channels);
  } else {
    (layout.alpha ? convert<Sample, 3, true>
                  : convert<Sample, 3, false>)(from, layout.premultiplied, count, to, channels);
  }
}

template <typename Sample>
void cmyk_to_rgb(const Sample* from, std::int64_t count, bool inverted, Sample* to) {
  constexpr std::uint32_t white = kWhite<Sample>;
  const std::uint32_t flip = inverted ? 0 : white;
  for (std::int64_t pixel = 0; pixel < count; ++pixel, from += 4, to += 3) {
    const std::uint32_t light = from[3] ^ flip;  // white - v, as white is all ones
    for (int c = 0; c < 3; ++c) {
      to[c] = static_cast<Sample>(((from[c] ^ flip) * light + white / 2) / white);
    }
  }
}

void unpack_bits(const std::uint8_t* from, int bits, std::int64_t count, std::uint8_t* to) {
  const int per_byte = 8 / bits;
  const int mask = (1 << bits) - 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const int shift = 8 - bits * static_cast<int>(i % per_byte + 1);
    to[i] = static_cast<std::uint8_t>((from[i / per_byte] >> shift) & mask);
  }
}

bool is_grey(const Palette& palette) {
  return std::ranges::all_of(palette, [](const auto& c) { return c[0] == c[1] && c[1] == c[2]; });
}

void look_up(const std::uint8_t* indices, std::int64_t count, const Palette& palette,
             const char* format, std::uint8_t* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (indices[i] >= palette.size()) {
      throw ImageError(fmt::format("damaged {}: colour {} of a palette of {}", format, indices[i],
                                   palette.size()));
    }
    to = std::ranges::copy(palette[indices[i]], to).out;
  }
}

template void convert_pixels(const std::uint8_t*, Layout, std::int64_t, std::uint8_t*, int);
template void convert_pixels(const std::uint16_t*, Layout, std::int64_t, std::uint16_t*, int);
template void convert_pixels(const float*, Layout, std::int64_t, float*, int);
template void cmyk_to_rgb(const std::uint8_t*, std::int64_t, bool, std::uint8_t*);
template void cmyk_to_rgb(const std::uint16_t*, std::int64_t, bool, std::uint16_t*);

}  // namespace convae::codec
