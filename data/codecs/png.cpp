#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/pixel_rows.h"

#include <fmt/format.h>
#include <spng.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace convae::codec {
namespace {

// Text, profiles and EXIF may each be compressed and unpack to gigabytes.
constexpr std::size_t kMaxChunkBytes = 16 << 20;
constexpr std::size_t kMaxStoredBytes = 64 << 20;

// Photographs, one core: million pixels a second to encode and to decode, share of raw bytes.
//   level 1, sub            26   55   0.57        level 3, up       18   62   0.55
//   level 1, up             26   59   0.56        level 3, all      12   44   0.54
//   level 1, all filters    15   42   0.55        level 6, all       3   32   0.52
//   level 1, up, Z_RLE      36   64   0.58   <- half again as fast for one percent of size
constexpr int kCompressionLevel = 1;
constexpr int kFilter = SPNG_FILTER_CHOICE_UP;
constexpr int kStrategy = 3;  // Z_RLE of zlib.h: matches at distance 1 only

using Spng = Handle<spng_ctx, spng_ctx_free>;

Spng new_context(int flags) {
  Spng context(spng_ctx_new(flags));
  if (!context) throw ImageError("PNG: out of memory");
  return context;
}

void check(int code) {
  switch (code) {
    case SPNG_OK: return;
    case SPNG_IO_EOF:
    case SPNG_EIDAT_TOO_SHORT: throw ImageError("truncated PNG: the data ends early");
    case SPNG_EWIDTH:
    case SPNG_EHEIGHT: throw ImageError("damaged PNG: a side of 0 or above 2^31 pixels");
    default: throw ImageError(std::string("damaged PNG: ") + spng_strerror(code));
  }
}

std::uint32_t big_endian_32(const std::uint8_t* bytes) {
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
         std::uint32_t{bytes[2]} << 8 | bytes[3];
}

/// The orientation in the eXIf chunk, which may follow the pixels, where spng's header functions do
/// not look; decoding tests its checksum. Throws unless the file has all of its last chunk, which
/// spng does not insist on.
int walk_chunks(Bytes bytes) {
  constexpr std::size_t kSignature = 8, kFrame = 12;  // length, type and checksum
  std::optional<int> orientation;
  for (std::size_t at = kSignature; bytes.size() >= at + kFrame;) {
    const std::size_t length = big_endian_32(&bytes[at]);
    if (length > bytes.size() - at - kFrame) break;
    const auto is = [type = &bytes[at + 4]](std::string_view name) {
      return std::equal(name.begin(), name.end(), type);
    };
    if (is("IEND")) return orientation.value_or(1);
    if (!orientation && is("eXIf")) orientation = exif_orientation(bytes.subspan(at + 8, length));
    at += kFrame + length;
  }
  check(SPNG_IO_EOF);
  return 1;
}

class PngReader {
public:
  PngReader(Bytes bytes, std::int64_t max_pixels) : context_(new_context(/*flags=*/0)) {
    // Before spng sees them: it answers with an overflow, and after reading all of the metadata.
    constexpr std::size_t kType = 12, kWidth = 16, kHeight = 20, kEnd = 24;
    if (bytes.size() >= kEnd && std::equal(&bytes[kType], &bytes[kWidth], "IHDR")) {
      check_size(big_endian_32(&bytes[kHeight]), big_endian_32(&bytes[kWidth]), max_pixels);
    }
    auto* context = context_.get();
    check(spng_set_crc_action(context, SPNG_CRC_ERROR, SPNG_CRC_ERROR));
    check(spng_set_chunk_limits(context, kMaxChunkBytes, kMaxStoredBytes));
    check(spng_set_png_buffer(context, bytes.data(), bytes.size()));
    check(spng_get_ihdr(context, &header_));
    read_palette();
    read_transparency();
    info_.format = ImageFormat::png;
    info_.height = header_.height;
    info_.width = header_.width;
    info_.channels = is_grey() ? 1 : 3;
    info_.alpha = has_alpha();
    info_.bits = header_.bit_depth == 16 ? 16 : 8;
    info_.orientation = walk_chunks(bytes);
  }

  const ImageInfo& info() const { return info_; }

  torch::Tensor decode(int channels) {
    auto pixels = empty_pixels(info_, channels);
    if (info_.bits == 16) {
      decode_rows(static_cast<std::uint16_t*>(pixels.data_ptr()), channels);
    } else {
      decode_rows(pixels.data_ptr<std::uint8_t>(), channels);
    }
    // The checksum of the last data chunk and all that follows it.
    check(spng_decode_chunks(context_.get()));
    return pixels;
  }

private:
  int samples() const {  // stored per pixel
    const int type = header_.color_type;
    return type == SPNG_COLOR_TYPE_TRUECOLOR         ? 3
           : type == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA ? 4
           : type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA ? 2
                                                     : 1;
  }

  bool is_grey() const {
    if (header_.color_type != SPNG_COLOR_TYPE_INDEXED) return samples() < 3;
    return std::all_of(palette_.entries, palette_.entries + palette_.n_entries,
                       [](const auto& e) { return e.red == e.green && e.green == e.blue; });
  }

  bool has_alpha() const {
    if (!transparency_) return samples() % 2 == 0;
    const auto* alpha = transparency_->type3_alpha;
    return header_.color_type != SPNG_COLOR_TYPE_INDEXED ||
           std::any_of(alpha, alpha + transparency_->n_type3_entries,
                       [](auto value) { return value < 255; });
  }

  void read_palette() {
    if (header_.color_type == SPNG_COLOR_TYPE_INDEXED) {
      check(spng_get_plte(context_.get(), &palette_));
    }
  }

  void read_transparency() {
    spng_trns transparency{};
    const int code = spng_get_trns(context_.get(), &transparency);
    if (code != SPNG_ECHUNKAVAIL) {
      check(code);
      transparency_ = transparency;
    }
  }

  /// The rows of an interlaced image are complete only after its last pass, so it is read whole
  /// before it is converted; others pass through one row.
  template <typename Sample>
  void decode_rows(Sample* to, int channels) {
    const auto row_bytes = (info_.width * samples() * header_.bit_depth + 7) / 8;
    const auto stride = info_.width * channels;
    const bool direct = header_.bit_depth >= 8 && !transparency_ &&
                        header_.color_type != SPNG_COLOR_TYPE_INDEXED && samples() == channels;
    const bool interlaced = header_.interlace_method != SPNG_INTERLACE_NONE;
    const auto row_samples = row_bytes / static_cast<std::int64_t>(sizeof(Sample));
    std::vector<Sample> stored(direct ? 0 : row_samples * (interlaced ? info_.height : 1));
    std::vector<Sample> scratch(direct ? 0 : info_.width * 4);
    check(spng_decode_image(context_.get(), nullptr, 0, SPNG_FMT_PNG, SPNG_DECODE_PROGRESSIVE));
    for (int code = SPNG_OK; code != SPNG_EOI;) {
      spng_row_info row{};
      check(spng_get_row_info(context_.get(), &row));
      auto* row_to = to + row.row_num * stride;
      auto* row_stored = direct       ? row_to
                         : interlaced ? &stored[row.row_num * row_samples]
                                      : stored.data();
      code = spng_decode_row(context_.get(), row_stored, row_bytes);
      check(code == SPNG_EOI ? SPNG_OK : code);
      if (!direct && !interlaced) convert_row(stored.data(), scratch.data(), row_to, channels);
    }
    for (std::int64_t y = 0; !direct && interlaced && y < info_.height; ++y) {
      convert_row(&stored[y * row_samples], scratch.data(), to + y * stride, channels);
    }
  }

  /// One row as spng gives it (SPNG_FMT_PNG: packed bits, 16 bits in the machine's order).
  /// `scratch` holds 4 samples a pixel.
  void convert_row(const std::uint8_t* stored, std::uint8_t* scratch, std::uint8_t* to,
                   int channels) const {
    const auto width = info_.width;
    if (header_.bit_depth < 8) {
      // Into the last quarter: what follows reads it from the left and writes up to 4 samples a
      // pixel from the start of the scratch row, and so never overtakes itself.
      unpack_bits(stored, header_.bit_depth, width, scratch + 3 * width);
      stored = scratch + 3 * width;
    }
    if (header_.color_type == SPNG_COLOR_TYPE_INDEXED) {
      look_up(stored, scratch);
      convert_pixels(scratch, Layout::rgb_alpha, width, to, channels);
    } else {
      convert_samples(stored, scratch, to, channels);
    }
  }

  void convert_row(const std::uint16_t* stored, std::uint16_t* scratch, std::uint16_t* to,
                   int channels) const {
    convert_samples(stored, scratch, to, channels);
  }

  void look_up(const std::uint8_t* indices, std::uint8_t* to) const {
    for (std::int64_t x = 0; x < info_.width; ++x, to += 4) {
      const unsigned index = indices[x];
      if (index >= palette_.n_entries) {
        throw ImageError(
            fmt::format("damaged PNG: colour {} of a palette of {}", index, palette_.n_entries));
      }
      const auto& entry = palette_.entries[index];
      to[0] = entry.red;
      to[1] = entry.green;
      to[2] = entry.blue;
      to[3] = transparency_ && index < transparency_->n_type3_entries
                  ? transparency_->type3_alpha[index]
                  : 255;
    }
  }

  template <typename Sample>
  void convert_samples(const Sample* stored, Sample* scratch, Sample* to, int channels) const {
    const int scale = header_.bit_depth < 8 ? spread_to_8_bits(header_.bit_depth) : 1;
    const int count = samples();
    if (!transparency_ && scale == 1) {
      constexpr Layout kLayouts[] = {Layout::grey, Layout::grey_alpha, Layout::rgb,
                                     Layout::rgb_alpha};
      return convert_pixels(stored, kLayouts[count - 1], info_.width, to, channels);
    }
    // The key colour is in stored samples; bits above their depth do not count.
    const auto mask = static_cast<unsigned>((1 << header_.bit_depth) - 1);
    const spng_trns key = transparency_.value_or(spng_trns{});
    const unsigned keys[3] = {(count == 1 ? key.gray : key.red) & mask, key.green & mask,
                              key.blue & mask};
    for (std::int64_t x = 0; x < info_.width; ++x) {
      bool is_key = transparency_.has_value();
      Sample values[3];
      for (int c = 0; c < count; ++c) {
        const unsigned value = stored[x * count + c];
        is_key = is_key && value == keys[c];
        values[c] = static_cast<Sample>(value * scale);
      }
      std::copy(values, values + count, scratch + x * (count + 1));
      scratch[x * (count + 1) + count] = is_key ? 0 : static_cast<Sample>(~Sample{0});
    }
    convert_pixels(scratch, count == 1 ? Layout::grey_alpha : Layout::rgb_alpha, info_.width, to,
                   channels);
  }

  Spng context_;
  spng_ihdr header_{};
  spng_plte palette_{};
  std::optional<spng_trns> transparency_;
  ImageInfo info_;
};

std::vector<std::uint8_t> encode_png(const torch::Tensor& pixels) {
  const auto context = new_context(SPNG_CTX_ENCODER);
  spng_ihdr header{};
  header.height = static_cast<std::uint32_t>(pixels.size(0));
  header.width = static_cast<std::uint32_t>(pixels.size(1));
  header.bit_depth = pixels.scalar_type() == at::kUInt16 ? 16 : 8;
  header.color_type = pixels.size(2) == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR;
  const auto expect_ok = [](int code) {
    if (code != SPNG_OK) throw ImageError(std::string("cannot encode PNG: ") + spng_strerror(code));
  };
  expect_ok(spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1));
  expect_ok(spng_set_option(context.get(), SPNG_IMG_COMPRESSION_LEVEL, kCompressionLevel));
  expect_ok(spng_set_option(context.get(), SPNG_IMG_COMPRESSION_STRATEGY, kStrategy));
  expect_ok(spng_set_option(context.get(), SPNG_FILTER_CHOICE, kFilter));
  expect_ok(spng_set_ihdr(context.get(), &header));
  expect_ok(spng_encode_image(context.get(), pixels.const_data_ptr(), pixels.nbytes(), SPNG_FMT_PNG,
                              SPNG_ENCODE_FINALIZE));
  std::size_t size = 0;
  int code = SPNG_OK;
  const Handle<void, std::free> buffer(spng_get_png_buffer(context.get(), &size, &code));
  expect_ok(code);
  const auto* begin = static_cast<const std::uint8_t*>(buffer.get());
  return {begin, begin + size};
}

}  // namespace

const Codec kPng = codec_of<PngReader>(encode_png, /*holds_16_bits=*/true);

}  // namespace convae::codec
