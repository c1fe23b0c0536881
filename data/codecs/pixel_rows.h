#pragma once

// Rows of samples on their way from a codec to a tensor.

#include <array>
#include <cstdint>
#include <vector>

namespace convae::codec {

/// What the samples of one pixel mean.
struct Layout {
  int colours;  ///< 1 or 3
  bool alpha = false;
  bool premultiplied = false;  ///< colour is already multiplied by alpha
};
inline constexpr Layout kRgbPixels = {3}, kRgbaPixels = {3, /*alpha=*/true};

/// Converts `count` pixels from `layout` to `channels` (1, 3 or 4) interleaved samples. With 4,
/// RGBA, colours stay as they are; else alpha is composited on white. Colour becomes grey as 0.299
/// R + 0.587 G + 0.114 B; all results are rounded to the nearest. `Sample` is uint8, uint16 or
/// float; `to` must not overlap `from`.
template <typename Sample>
void convert_pixels(const Sample* from, Layout layout, std::int64_t count, Sample* to,
                    int channels);

/// Inks to light: a sample of `from` (C, M, Y, K) is the share of paper that stays white when
/// `inverted`, the share that is covered when not.
template <typename Sample>
void cmyk_to_rgb(const Sample* from, std::int64_t count, bool inverted, Sample* to);

/// Spreads `count` samples of 1, 2 or 4 bits, the leftmost in the highest bits, to a byte each.
void unpack_bits(const std::uint8_t* from, int bits, std::int64_t count, std::uint8_t* to);

using Palette = std::vector<std::array<std::uint8_t, 4>>;  // RGBA

bool is_grey(const Palette& palette);

/// Palette indices → RGBA. Throws ImageError naming `format` where the palette has no such colour.
void look_up(const std::uint8_t* indices, std::int64_t count, const Palette& palette,
             const char* format, std::uint8_t* to);

}  // namespace convae::codec
