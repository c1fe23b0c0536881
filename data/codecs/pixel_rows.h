#pragma once

// Rows of samples on their way from a codec to a tensor.

#include <cstdint>

namespace convae::codec {

/// What the samples of one pixel mean. Premultiplied: colour is already multiplied by alpha.
enum class Layout { grey, grey_alpha, grey_premultiplied, rgb, rgb_alpha, rgb_premultiplied };

/// Converts `count` pixels from `layout` to `channels` (1 or 3) interleaved samples.
/// Alpha is composited on white; colour becomes grey as 0.299 R + 0.587 G + 0.114 B; all
/// results are rounded to the nearest. `Sample` is uint8 or uint16; `to` must not overlap `from`.
template <typename Sample>
void convert_pixels(const Sample* from, Layout layout, std::int64_t count, Sample* to,
                    int channels);

/// Inks to light: a sample of `from` (C, M, Y, K) is the share of paper that stays white when
/// `inverted`, the share that is covered when not.
template <typename Sample>
void cmyk_to_rgb(const Sample* from, std::int64_t count, bool inverted, Sample* to);

/// Spreads `count` samples of 1, 2 or 4 bits, the leftmost in the highest bits, to a byte each.
void unpack_bits(const std::uint8_t* from, int bits, std::int64_t count, std::uint8_t* to);

/// The factor that brings a sample of 1, 2, 4 or 8 bits to 0..255.
constexpr int spread_to_8_bits(int bits) { return 255 / ((1 << bits) - 1); }

}  // namespace convae::codec
