// By hand rather than with a library: stb_image fills a cut file with zeros, reads past a short
// palette and takes the unused byte of 32-bit pixels for alpha.
// Layout: Microsoft, "Bitmap Structures" (wingdi.h); all numbers are little-endian.

#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/pixel_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <limits>

namespace convae::codec {
namespace {

constexpr std::int64_t kFileHeader = 14;
constexpr std::int64_t kMasksAt = 54;  // after a header of 40 bytes, within longer ones

enum Compression : std::uint32_t { kRgb, kRle8, kRle4, kBitfields, kJpeg, kPng, kAlphaBitfields };

/// The bits of a 16- or 32-bit pixel that hold one colour.
class Field {
public:
  Field() = default;
  explicit Field(std::uint32_t mask)
      : mask_(mask), shift_(mask ? std::countr_zero(mask) : 0), most_(mask >> shift_) {
    if ((most_ & (most_ + 1)) != 0) throw ImageError("damaged BMP: a colour mask with gaps");
  }
  explicit operator bool() const { return mask_ != 0; }

  std::uint8_t of(std::uint32_t pixel) const {  // spread over 0..255
    const std::uint64_t value = (pixel & mask_) >> shift_;
    if (most_ == 255) {  // nearly always, and much quicker than the division
      return static_cast<std::uint8_t>(value);
    }
    return static_cast<std::uint8_t>((value * 255 + most_ / 2) / most_);
  }
  bool any(std::uint32_t pixel) const { return (pixel & mask_) != 0; }

private:
  std::uint32_t mask_ = 0;
  int shift_ = 0;
  std::uint32_t most_ = 0;
};

class BmpReader : public FileReader {
public:
  BmpReader(Bytes bytes, std::int64_t max_pixels) : bytes_(bytes) {
    header_bytes_ = number(14, 4);
    static constexpr std::int64_t kKnown[] = {12, 40, 52, 56, 64, 108, 124};
    if (std::ranges::find(kKnown, header_bytes_) == std::end(kKnown)) {
      throw ImageError(
          fmt::format("damaged or unsupported BMP: a header of {} bytes", header_bytes_));
    }
    read_sides(max_pixels);
    read_depth();
    read_colours();
    check_length();
    info.format = ImageFormat::bmp;
    info.channels = depth_ <= 8 && is_grey(palette_) ? 1 : 3;
    info.alpha = static_cast<bool>(alpha_);
  }

  const Palette& palette() const { return palette_; }

  torch::Tensor decode(int channels) {
    if (is_in_runs()) read_runs();
    auto pixels = empty_pixels(info, channels);
    std::vector<std::uint8_t> colours(info.width * 4), indices(info.width);
    const bool opaque = !alpha_ || is_blank();
    for (std::int64_t y = 0; y < info.height; ++y) {
      expand_row(y, opaque, indices.data(), colours.data());
      convert_pixels(colours.data(), kRgbaPixels, info.width,
                     pixels.data_ptr<std::uint8_t>() + y * info.width * channels, channels);
    }
    return pixels;
  }

private:
  std::int64_t number(std::int64_t at, int count) const {
    if (at + count > static_cast<std::int64_t>(bytes_.size())) {
      throw ImageError("truncated BMP: the data ends within the header");
    }
    return static_cast<std::int64_t>(number_at(bytes_, at, count));
  }

  bool is_core() const { return header_bytes_ == 12; }  // OS/2 1, Windows 2

  void read_sides(std::int64_t max_pixels) {
    std::int64_t width = is_core() ? number(18, 2) : static_cast<std::int32_t>(number(18, 4));
    std::int64_t height = is_core() ? number(20, 2) : static_cast<std::int32_t>(number(22, 4));
    top_down_ = height < 0;
    info.height = std::abs(height);
    info.width = width;
    check_size(info.height, info.width, max_pixels);
  }

  bool is_in_runs() const { return compression_ == kRle8 || compression_ == kRle4; }

  void read_depth() {
    depth_ = static_cast<int>(number(is_core() ? 24 : 28, 2));
    compression_ = is_core() ? kRgb : static_cast<std::uint32_t>(number(30, 4));
    const bool bitfields = compression_ == kBitfields || compression_ == kAlphaBitfields;
    const bool runs = is_in_runs() && header_bytes_ >= 40;
    if (compression_ != kRgb && !runs && (!bitfields || header_bytes_ == 64)) {
      throw ImageError(fmt::format("unsupported BMP: compression {}", compression_));
    }
    static constexpr int kDepths[] = {1, 2, 4, 8, 16, 24, 32};
    if (std::ranges::find(kDepths, depth_) == std::end(kDepths) ||
        (bitfields && depth_ != 16 && depth_ != 32) ||
        (runs && (depth_ != (compression_ == kRle8 ? 8 : 4) || top_down_))) {
      throw ImageError(fmt::format("damaged BMP: {} bits a pixel", depth_));
    }
    stride_ = (info.width * depth_ + 31) / 32 * 4;
  }

  void read_colours() {
    const bool bitfields = compression_ != kRgb;
    if (depth_ <= 8) {
      read_palette();
    } else if (bitfields) {
      for (std::int64_t c = 0; c < 3; ++c) {
        fields_[c] = Field(static_cast<std::uint32_t>(number(kMasksAt + 4 * c, 4)));
        if (!fields_[c]) throw ImageError("damaged BMP: an empty colour mask");
      }
      if (header_bytes_ >= 56 || compression_ == kAlphaBitfields) {
        alpha_ = Field(static_cast<std::uint32_t>(number(kMasksAt + 12, 4)));
      }
    } else if (depth_ == 16) {
      fields_ = {Field(0x7C00), Field(0x03E0), Field(0x001F)};
    } else {
      fields_ = {Field(0xFF0000), Field(0x00FF00), Field(0x0000FF)};
    }
  }

  void read_palette() {
    const std::int64_t most = std::int64_t{1} << depth_;
    const std::int64_t used = is_core() ? 0 : number(46, 4);
    const std::int64_t entry_bytes = is_core() ? 3 : 4;
    const std::int64_t start = kFileHeader + header_bytes_;
    // Pixels may begin before the end of a table that is not written out in full.
    const auto room = std::max<std::int64_t>(0, number(10, 4) - start) / entry_bytes;
    palette_.resize(std::min({used == 0 ? most : used, most, room}));
    for (std::size_t i = 0; i < palette_.size(); ++i) {
      const auto at = start + static_cast<std::int64_t>(i) * entry_bytes;
      for (int c = 0; c < 3; ++c) palette_[i][c] = static_cast<std::uint8_t>(number(at + 2 - c, 1));
      palette_[i][3] = 255;
    }
  }

  void check_length() {
    pixels_at_ = number(10, 4);
    const std::int64_t headers = kFileHeader + header_bytes_;
    if (pixels_at_ < headers) throw ImageError("damaged BMP: the pixels begin within the header");
    if (is_in_runs()) return;  // their length shows as they are read
    // The padding of the last row is often left out.
    const std::int64_t needed =
        pixels_at_ + (info.height - 1) * stride_ + (info.width * depth_ + 7) / 8;
    if (needed > static_cast<std::int64_t>(bytes_.size())) {
      throw ImageError(fmt::format("truncated BMP: {} of {} bytes", bytes_.size(), needed));
    }
  }

  /// Run-length coded indices (BI_RLE8, BI_RLE4) → a byte each. Pixels that are passed over have
  /// colour 0.
  void read_runs() {
    runs_.assign(static_cast<std::size_t>(info.height * info.width), 0);
    std::int64_t at = pixels_at_, x = 0, y = 0;
    const auto next = [&] {
      if (at >= static_cast<std::int64_t>(bytes_.size())) {
        throw ImageError(
            fmt::format("truncated BMP: the data ends after {} of {} rows", y, info.height));
      }
      return static_cast<std::int64_t>(bytes_[at++]);
    };
    const auto put_pixel = [&](std::int64_t index) {  // runs may reach beyond the row
      if (x < info.width) runs_[(info.height - 1 - y) * info.width + x++] = index & 0xFF;
    };
    const auto half = [&](std::int64_t byte, std::int64_t i) {
      return depth_ == 8 ? byte : i % 2 == 0 ? byte >> 4 : byte & 15;
    };
    while (y < info.height) {
      const std::int64_t count = next(), value = next();
      if (count > 0) {
        for (std::int64_t i = 0; i < count; ++i) put_pixel(half(value, i));
      } else if (value == 0) {  // the end of a row
        x = 0;
        ++y;
      } else if (value == 1) {  // of the picture
        return;
      } else if (value == 2) {  // a step to the right and up
        x += next();
        y += next();
      } else {  // single pixels, in an even number of bytes
        const std::int64_t begin = at;
        for (std::int64_t i = 0, byte = 0; i < value; ++i) {
          if (depth_ == 8 || i % 2 == 0) byte = next();
          put_pixel(half(byte, i));
        }
        at += (at - begin) % 2;
      }
    }
  }

  const std::uint8_t* row(std::int64_t y) const {
    return &bytes_[pixels_at_ + (top_down_ ? y : info.height - 1 - y) * stride_];
  }

  std::uint32_t pixel(const std::uint8_t* row, std::int64_t x) const {  // of 16 to 32 bits
    const auto* at = row + x * (depth_ / 8);
    std::uint32_t value = 0;
    for (int i = 0; i < depth_ / 8; ++i) value |= std::uint32_t{at[i]} << (8 * i);
    return value;
  }

  /// Programs that reserve alpha but leave it at zero mean an opaque picture.
  bool is_blank() const {
    for (std::int64_t y = 0; y < info.height; ++y) {
      for (std::int64_t x = 0; x < info.width; ++x) {
        if (alpha_.any(pixel(row(y), x))) return false;
      }
    }
    return true;
  }

  /// Row `y` from the top as RGBA. `indices` is room for a row of them.
  void expand_row(std::int64_t y, bool opaque, std::uint8_t* indices, std::uint8_t* to) const {
    if (is_in_runs()) {
      return look_up(&runs_[y * info.width], info.width, palette_, "BMP", to);
    }
    const auto* from = row(y);
    if (depth_ <= 8) {
      unpack_bits(from, depth_, info.width, indices);
      return look_up(indices, info.width, palette_, "BMP", to);
    }
    for (std::int64_t x = 0; x < info.width; ++x, to += 4) {
      const auto value = pixel(from, x);
      for (int c = 0; c < 3; ++c) to[c] = fields_[c].of(value);
      to[3] = opaque ? 255 : alpha_.of(value);
    }
  }

  Bytes bytes_;
  std::int64_t header_bytes_ = 0;
  std::int64_t pixels_at_ = 0;
  std::int64_t stride_ = 0;
  int depth_ = 0;
  std::uint32_t compression_ = kRgb;
  bool top_down_ = false;
  std::vector<std::uint8_t> runs_;  // indices from the top, where the file has them in runs
  Palette palette_;
  std::array<Field, 3> fields_;  // red, green, blue
  Field alpha_;
};

void put(std::vector<std::uint8_t>& bytes, std::uint64_t value, int count) {
  for (int i = 0; i < count; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

Palette all_greys() {
  Palette greys;
  for (int i = 0; i < 256; ++i) {
    const auto grey = static_cast<std::uint8_t>(i);
    greys.push_back({grey, grey, grey, 255});
  }
  return greys;
}

/// 8-bit indices for grey and for a palette, else 24 bits, or 32 with alpha.
std::vector<std::uint8_t> encode_bmp(const torch::Tensor& pixels, const Original* original) {
  if (pixels.size(2) == 2) {  // grey with alpha, which BMP has only in colour
    torch::Tensor colours = pixels.new_empty({pixels.size(0), pixels.size(1), 4});
    convert_pixels(pixels.const_data_ptr<std::uint8_t>(), {1, /*alpha=*/true},
                   pixels.size(0) * pixels.size(1), colours.mutable_data_ptr<std::uint8_t>(), 4);
    return encode_bmp(colours, original);
  }
  constexpr std::size_t kDotsAt = 38, kDotsBytes = 8;  // pixels a metre, both ways
  const bool has_dots =
      original && original->bytes.size() > kDotsAt + kDotsBytes && original->bytes[14] >= 40;
  const auto height = pixels.size(0), width = pixels.size(1), channels = pixels.size(2);
  Palette palette = original ? BmpReader(original->bytes, kAnyArea).palette() : Palette{};
  if (palette.empty() && channels == 1) palette = all_greys();
  const bool has_alpha = channels == 4;
  const int samples = palette.empty() ? static_cast<int>(channels) : 1;
  const std::int64_t own_header = has_alpha ? 108 : 40;  // BITMAPV4HEADER has a mask for alpha
  const std::int64_t header = kFileHeader + own_header + 4 * std::ssize(palette);
  const std::int64_t stride = (samples * width + 3) / 4 * 4;
  if (height > (std::numeric_limits<std::uint32_t>::max() - header) / stride) {
    throw ImageError("BMP holds at most 4 GiB; write PNG or TIFF");
  }
  std::vector<std::uint8_t> bytes;
  bytes.reserve(header + height * stride);
  put(bytes, 'B' | 'M' << 8, 2);
  put(bytes, header + height * stride, 4);
  put(bytes, 0, 4);
  put(bytes, header, 4);
  put(bytes, own_header, 4);
  put(bytes, width, 4);
  put(bytes, height, 4);
  put(bytes, 1, 2);            // planes
  put(bytes, 8 * samples, 2);  // bits a pixel
  put(bytes, has_alpha ? kBitfields : kRgb, 4);
  put(bytes, 0, 4);  // size, left open
  put(bytes, has_dots ? number_at(original->bytes, kDotsAt, kDotsBytes) : 0, kDotsBytes);
  put(bytes, palette.size(), 4);
  put(bytes, 0, 4);  // all of these colours matter
  if (has_alpha) {
    for (const auto mask : {0xFF0000U, 0xFF00U, 0xFFU, 0xFF000000U}) put(bytes, mask, 4);
    put(bytes, 's' << 24 | 'R' << 16 | 'G' << 8 | 'B', 4);
  }
  for (const auto& colour : palette) put(bytes, colour[0] << 16 | colour[1] << 8 | colour[2], 4);
  bytes.resize(header + height * stride);
  const std::vector<std::uint8_t> indices =
      palette.empty() ? std::vector<std::uint8_t>{} : nearest_colours(pixels, palette);
  const auto* from = pixels.const_data_ptr<std::uint8_t>();
  for (std::int64_t y = height - 1; y >= 0; --y) {  // the last row lies lowest in the file's order
    auto* to = &bytes[header + (height - 1 - y) * stride];
    if (!palette.empty()) {
      std::copy_n(&indices[y * width], width, to);
      continue;
    }
    for (std::int64_t x = 0; x < width; ++x, to += samples) {
      const auto* pixel = from + (y * width + x) * channels;
      for (int c = 0; c < 3; ++c) to[2 - c] = pixel[c];
      if (has_alpha) to[3] = pixel[3];
    }
  }
  return bytes;
}

}  // namespace

const Codec kBmp = codec_of<BmpReader>(encode_bmp, /*holds_16_bits=*/false);

}  // namespace convae::codec
