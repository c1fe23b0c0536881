#include "convae/data/codecs/png_parts.h"

#include <algorithm>
#include <deque>

namespace convae::codec {
namespace {

/// Of an animation (APNG), whose first picture is read.
int frames_of(const std::vector<PngChunk>& chunks) {
  const Bytes control = data_of(chunks, "acTL");
  if (control.size() < 4) return 1;
  return static_cast<int>(std::clamp<std::uint32_t>(big_endian_32(control, 0), 1, kMaxPages));
}

class PngReader : public FileReader {
public:
  PngReader(Bytes bytes, std::int64_t max_pixels) : context_(new_spng(/*flags=*/0)) {
    // Before spng sees them: it answers with an overflow, and after reading all of the metadata.
    constexpr std::size_t kType = 12, kWidth = 16, kHeight = 20, kEnd = 24;
    if (bytes.size() >= kEnd && std::equal(&bytes[kType], &bytes[kWidth], "IHDR")) {
      check_size(big_endian_32(bytes, kHeight), big_endian_32(bytes, kWidth), max_pixels);
    }
    auto* context = context_.get();
    const std::vector<PngChunk> chunks = chunks_of(bytes);
    check_spng(spng_set_crc_action(context, SPNG_CRC_ERROR, SPNG_CRC_ERROR));
    if (std::ranges::any_of(chunks, is_note)) {
      essential_.push_back(bytes.first(8));
      for (const PngChunk& chunk : chunks) {
        if (!is_note(chunk)) essential_.push_back(chunk.whole);
      }
      check_spng(spng_set_png_stream(context, read_essential, this));
    } else {
      check_spng(spng_set_png_buffer(context, bytes.data(), bytes.size()));
    }
    check_spng(spng_get_ihdr(context, &header_));
    is_indexed_ = header_.color_type == SPNG_COLOR_TYPE_INDEXED;
    read_transparency();
    if (is_indexed_) read_palette();
    info.format = ImageFormat::png;
    info.height = header_.height;
    info.width = header_.width;
    info.channels = (is_indexed_ ? is_grey(palette_) : samples() < 3) ? 1 : 3;
    info.alpha = is_indexed_
                     ? std::ranges::any_of(palette_, [](const auto& c) { return c[3] < 255; })
                     : has_key_ || samples() % 2 == 0;
    info.bits = header_.bit_depth == 16 ? 16 : 8;
    info.orientation = exif_orientation(data_of(chunks, "eXIf"));  // it may follow the pixels
    info.pages = frames_of(chunks);
  }

  StoredPng stored() const { return {header_.bit_depth, has_key_, palette_, transparency_}; }

  bool has_parts() const { return header_.interlace_method == SPNG_INTERLACE_NONE; }
  static bool reads_rows() { return true; }
  std::int64_t next_row() const { return next_row_; }

  /// Rows after those that were decoded before.
  torch::Tensor decode_part(const Region& part, int channels) {
    if (next_row_ == 0) {
      check_spng(spng_decode_image(context_.get(), nullptr, 0, stored_format(),
                                   decode_flags() | SPNG_DECODE_PROGRESSIVE));
    }
    auto pixels = empty_pixels(info, {part.rows.length(), info.width}, channels);
    with_samples(pixels, [&](auto* to) {
      const std::size_t row_bytes = stored_bytes() / info.height;
      std::vector<std::remove_pointer_t<decltype(to)>> row(row_bytes / sizeof *to);
      for (; next_row_ < part.rows.end; ++next_row_) {
        const int code = spng_decode_row(context_.get(), row.data(), row_bytes);
        if (code != SPNG_EOI) check_spng(code);
        if (next_row_ < part.rows.begin) continue;
        convert_rows(row.data(), 1, to, channels);
        to += info.width * channels;
      }
    });
    if (next_row_ == info.height) check_spng(spng_decode_chunks(context_.get()));
    return pixels.narrow(1, part.columns.begin, part.columns.length()).contiguous();
  }

  torch::Tensor decode(int channels) {
    auto pixels = empty_pixels(info, channels);
    with_samples(pixels, [&](auto* to) { decode_rows(to, channels); });
    // The checksum of the last data chunk and all that follows it.
    check_spng(spng_decode_chunks(context_.get()));
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

  void read_transparency() {
    const int code = spng_get_trns(context_.get(), &transparency_);
    if (code != SPNG_ECHUNKAVAIL) check_spng(code);
    has_key_ = code == SPNG_OK && !is_indexed_;
  }

  void read_palette() {
    spng_plte palette{};
    check_spng(spng_get_plte(context_.get(), &palette));
    for (std::uint32_t i = 0; i < palette.n_entries; ++i) {
      const auto& entry = palette.entries[i];
      const bool opaque = i >= transparency_.n_type3_entries;
      palette_.push_back({entry.red, entry.green, entry.blue,
                          opaque ? std::uint8_t{255} : transparency_.type3_alpha[i]});
    }
  }

  /// spng applies a key colour and spreads a few bits only on the way to RGBA.
  bool comes_as_rgba() const { return !is_indexed_ && (has_key_ || header_.bit_depth < 8); }
  int stored_samples() const { return comes_as_rgba() ? 4 : samples(); }
  int decode_flags() const { return has_key_ ? SPNG_DECODE_TRNS : 0; }
  int stored_format() const {
    return !comes_as_rgba() ? SPNG_FMT_PNG : info.bits == 16 ? SPNG_FMT_RGBA16 : SPNG_FMT_RGBA8;
  }
  std::size_t stored_bytes() {
    std::size_t bytes = 0;
    check_spng(spng_decoded_image_size(context_.get(), stored_format(), &bytes));
    return bytes;
  }

  template <typename Sample>
  void decode_rows(Sample* to, int channels) {
    const std::size_t bytes = stored_bytes();
    const auto decode_to = [&](void* memory) {
      check_spng(spng_decode_image(context_.get(), memory, bytes, stored_format(), decode_flags()));
    };
    if (!is_indexed_ && stored_samples() == channels) return decode_to(to);
    std::vector<Sample> stored(bytes / sizeof(Sample));
    decode_to(stored.data());
    convert_rows(stored.data(), info.height, to, channels);
  }

  template <typename Sample>
  void convert_rows(const Sample* stored, std::int64_t rows, Sample* to, int channels) {
    if (!is_indexed_) {
      const int count = stored_samples();
      const Layout layout{count < 3 ? 1 : 3, /*alpha=*/count % 2 == 0};
      convert_pixels(stored, layout, rows * info.width, to, channels);
    } else if constexpr (sizeof(Sample) == 1) {  // PNG has no wider indices
      look_up_rows(stored, rows, to, channels);
    }
  }

  /// Indices are packed where they have less than 8 bits, each row from a byte of its own.
  void look_up_rows(const std::uint8_t* stored, std::int64_t rows, std::uint8_t* to, int channels) {
    const std::int64_t row_bytes = static_cast<std::int64_t>(stored_bytes()) / info.height;
    std::vector<std::uint8_t> indices(info.width), colours(4 * info.width);
    for (std::int64_t y = 0; y < rows; ++y, to += info.width * channels) {
      unpack_bits(&stored[y * row_bytes], header_.bit_depth, info.width, indices.data());
      look_up(indices.data(), info.width, palette_, "PNG", colours.data());
      convert_pixels(colours.data(), kRgbaPixels, info.width, to, channels);
    }
  }

  /// spng's source: the file without notes.
  static int read_essential(spng_ctx*, void* reader, void* to, std::size_t count) {
    auto& left = static_cast<PngReader*>(reader)->essential_;
    for (auto* out = static_cast<std::uint8_t*>(to); count > 0;) {
      if (left.empty()) return SPNG_IO_EOF;
      const std::size_t part = std::min(count, left.front().size());
      out = std::copy_n(left.front().begin(), part, out);
      count -= part;
      left.front() = left.front().subspan(part);
      if (left.front().empty()) left.pop_front();
    }
    return SPNG_OK;
  }

  std::deque<Bytes> essential_;  // what is left of it, where there are notes
  Spng context_;
  spng_ihdr header_{};
  spng_trns transparency_{};
  bool is_indexed_ = false;
  bool has_key_ = false;       // a colour that is transparent
  std::int64_t next_row_ = 0;  // of those decoded one by one
  Palette palette_;
};

}  // namespace

StoredPng stored_png(Bytes png) { return PngReader(png, kAnyArea).stored(); }

const Codec kPng = codec_of<PngReader>(encode_png, /*holds_16_bits=*/true);

}  // namespace convae::codec
