#include "convae/core/files.h"
#include "convae/core/mapped_file.h"
#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/picture_files.h"
#include "convae/data/codecs/pixel_rows.h"

#include <spng.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace convae::codec {
namespace {

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

std::uint32_t big_endian_32(Bytes bytes, std::size_t at) {
  return static_cast<std::uint32_t>(number_at(bytes, at, 4, std::endian::big));
}

struct Chunk {
  std::string_view type;
  Bytes data;
  Bytes whole;  ///< with its length, type and checksum
};

/// Notes beside the picture, which spng reads and may refuse: damage there harms no pixel.
bool is_note(const Chunk& chunk) {
  const bool is_optional = (chunk.type[0] & 0x20) != 0;  // a small letter
  return is_optional && chunk.type != "tRNS";
}

void check_sum(const Chunk& chunk) {
  const Bytes summed = chunk.whole.subspan(4, chunk.whole.size() - 8);  // type and data
  if (crc32_z(0, summed.data(), summed.size()) != big_endian_32(chunk.whole, 4 + summed.size())) {
    check(SPNG_ECHUNK_CRC);
  }
}

/// All chunks, to the last. Throws where the file does not have all of that, on which spng does not
/// insist, or where the checksum of one that spng will not see is wrong.
std::vector<Chunk> chunks_of(Bytes bytes) {
  constexpr std::size_t kSignature = 8, kFrame = 12;  // length, type and checksum
  std::vector<Chunk> chunks;
  for (std::size_t at = kSignature; bytes.size() >= at + kFrame;) {
    const std::size_t length = big_endian_32(bytes, at);
    if (length > bytes.size() - at - kFrame) break;
    const auto* type = reinterpret_cast<const char*>(&bytes[at + 4]);
    chunks.push_back(
        {{type, 4}, bytes.subspan(at + 8, length), bytes.subspan(at, length + kFrame)});
    if (is_note(chunks.back())) check_sum(chunks.back());
    if (chunks.back().type == "IEND") return chunks;
    at += kFrame + length;
  }
  check(SPNG_IO_EOF);
  return {};
}

/// Of the eXIf chunk, which may follow the pixels, and be empty.
int orientation_of(const std::vector<Chunk>& chunks) {
  const auto exif = std::ranges::find(chunks, "eXIf", &Chunk::type);
  return exif == chunks.end() || exif->data.empty() ? 1 : exif_orientation(exif->data);
}

/// Of an animation (APNG), whose first picture is read.
int frames_of(const std::vector<Chunk>& chunks) {
  const auto control = std::ranges::find(chunks, "acTL", &Chunk::type);
  if (control == chunks.end() || control->data.size() < 4) return 1;
  return static_cast<int>(std::clamp<std::uint32_t>(big_endian_32(control->data, 0), 1, kMaxPages));
}

class PngReader {
public:
  PngReader(Bytes bytes, std::int64_t max_pixels) : context_(new_context(/*flags=*/0)) {
    // Before spng sees them: it answers with an overflow, and after reading all of the metadata.
    constexpr std::size_t kType = 12, kWidth = 16, kHeight = 20, kEnd = 24;
    if (bytes.size() >= kEnd && std::equal(&bytes[kType], &bytes[kWidth], "IHDR")) {
      check_size(big_endian_32(bytes, kHeight), big_endian_32(bytes, kWidth), max_pixels);
    }
    auto* context = context_.get();
    const std::vector<Chunk> chunks = chunks_of(bytes);
    check(spng_set_crc_action(context, SPNG_CRC_ERROR, SPNG_CRC_ERROR));
    has_notes_ = std::ranges::any_of(chunks, is_note);
    if (has_notes_) {
      essential_.push_back(bytes.first(8));
      for (const Chunk& chunk : chunks) {
        if (!is_note(chunk)) essential_.push_back(chunk.whole);
      }
      check(spng_set_png_stream(context, read_essential, this));
    } else {
      check(spng_set_png_buffer(context, bytes.data(), bytes.size()));
    }
    check(spng_get_ihdr(context, &header_));
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
    info.orientation = orientation_of(chunks);
    info.pages = frames_of(chunks);
  }

  ImageInfo info;
  const Palette& palette() const { return palette_; }
  bool has_notes() const { return has_notes_; }

  void note_losses(std::vector<std::string>& lost) const {
    if (!is_indexed_ && header_.bit_depth < 8) {
      lost.push_back("samples of " + std::to_string(header_.bit_depth) + " bits (now 8)");
    }
    if (has_key_) lost.emplace_back("its key colour (now alpha)");
  }

  void give_palette_to(spng_ctx* encoder) const {
    if (!is_indexed_) return;
    spng_plte palette{};
    palette.n_entries = static_cast<std::uint32_t>(palette_.size());
    for (std::size_t i = 0; i < palette_.size(); ++i) {
      palette.entries[i] = {palette_[i][0], palette_[i][1], palette_[i][2], 255};
    }
    check(spng_set_plte(encoder, &palette));
    spng_trns transparency = transparency_;
    if (transparency.n_type3_entries > 0) check(spng_set_trns(encoder, &transparency));
  }

  bool has_parts() const { return header_.interlace_method == SPNG_INTERLACE_NONE; }
  static bool reads_rows() { return true; }
  std::int64_t next_row() const { return next_row_; }

  /// Rows after those that were decoded before.
  torch::Tensor decode_part(const Region& part, int channels) {
    if (next_row_ == 0) {
      check(spng_decode_image(context_.get(), nullptr, 0, stored_format(),
                              decode_flags() | SPNG_DECODE_PROGRESSIVE));
    }
    const Size all{part.rows.length(), info.width};
    auto pixels = empty_pixels(info, all, channels);
    std::vector<std::uint8_t> row(stored_bytes() / info.height);
    const std::int64_t row_bytes = pixels.stride(0) * pixels.element_size();
    auto* to = static_cast<std::uint8_t*>(pixels.data_ptr());
    for (; next_row_ < part.rows.end; ++next_row_) {
      const int code = spng_decode_row(context_.get(), row.data(), row.size());
      if (code != SPNG_EOI) check(code);
      if (next_row_ < part.rows.begin) continue;
      if (info.bits == 16) {
        convert_rows(reinterpret_cast<const std::uint16_t*>(row.data()), 1,
                     reinterpret_cast<std::uint16_t*>(to), channels);
      } else {
        convert_rows(row.data(), 1, to, channels);
      }
      to += row_bytes;
    }
    if (next_row_ == info.height) check(spng_decode_chunks(context_.get()));
    return pixels.narrow(1, part.columns.begin, part.columns.length()).contiguous();
  }

  torch::Tensor decode(int channels) {
    auto pixels = empty_pixels(info, channels);
    if (info.bits == 16) {
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

  void read_transparency() {
    const int code = spng_get_trns(context_.get(), &transparency_);
    if (code != SPNG_ECHUNKAVAIL) check(code);
    has_key_ = code == SPNG_OK && !is_indexed_;
  }

  void read_palette() {
    spng_plte palette{};
    check(spng_get_plte(context_.get(), &palette));
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
    check(spng_decoded_image_size(context_.get(), stored_format(), &bytes));
    return bytes;
  }

  template <typename Sample>
  void decode_rows(Sample* to, int channels) {
    const std::size_t bytes = stored_bytes();
    const auto decode_to = [&](void* memory) {
      check(spng_decode_image(context_.get(), memory, bytes, stored_format(), decode_flags()));
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

  bool has_notes_ = false;
  std::deque<Bytes> essential_;  // what is left of it
  Spng context_;
  spng_ihdr header_{};
  spng_trns transparency_{};
  bool is_indexed_ = false;
  bool has_key_ = false;       // a colour that is transparent
  std::int64_t next_row_ = 0;  // of those decoded one by one
  Palette palette_;
};

void expect_ok(int code) {
  if (code != SPNG_OK) throw ImageError(std::string("cannot encode PNG: ") + spng_strerror(code));
}

/// Notes that say nothing of the type of samples go over as they are, between header and picture.
void take_notes(std::vector<std::uint8_t>& png, const Original& original) {
  static constexpr std::string_view kOfColours[] = {"iCCP", "sRGB", "cHRM"};
  static constexpr std::string_view kKept[] = {"gAMA", "pHYs", "tEXt", "zTXt",
                                               "iTXt", "tIME", "oFFs", "sCAL"};
  constexpr std::ptrdiff_t kAfterHeader = 8 + 25;
  std::vector<std::uint8_t> notes;
  for (const Chunk& chunk : chunks_of(original.bytes)) {
    if (!is_note(chunk) || chunk.type == "eXIf") continue;
    const bool of_colours = std::ranges::find(kOfColours, chunk.type) != std::end(kOfColours);
    if (of_colours ? original.same_colours
                   : std::ranges::find(kKept, chunk.type) != std::end(kKept)) {
      notes.insert(notes.end(), chunk.whole.begin(), chunk.whole.end());
    } else {
      original.lost.push_back("its chunk " + std::string(chunk.type));
    }
  }
  png.insert(png.begin() + kAfterHeader, notes.begin(), notes.end());
}

spng_ihdr header_of(Size size, std::int64_t channels, at::ScalarType type) {
  static constexpr std::uint8_t kTypes[] = {
      SPNG_COLOR_TYPE_GRAYSCALE, SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, SPNG_COLOR_TYPE_TRUECOLOR,
      SPNG_COLOR_TYPE_TRUECOLOR_ALPHA};
  spng_ihdr header{};
  header.height = static_cast<std::uint32_t>(size.h);
  header.width = static_cast<std::uint32_t>(size.w);
  header.bit_depth = type == at::kUInt16 ? 16 : 8;
  header.color_type = kTypes[channels - 1];
  return header;
}

Spng new_encoder() {
  Spng context = new_context(SPNG_CTX_ENCODER);
  expect_ok(spng_set_option(context.get(), SPNG_IMG_COMPRESSION_LEVEL, kCompressionLevel));
  expect_ok(spng_set_option(context.get(), SPNG_IMG_COMPRESSION_STRATEGY, kStrategy));
  expect_ok(spng_set_option(context.get(), SPNG_FILTER_CHOICE, kFilter));
  return context;
}

std::vector<std::uint8_t> encode_png(const torch::Tensor& pixels, const Original* original) {
  const auto context = new_encoder();
  spng_ihdr header =
      header_of({pixels.size(0), pixels.size(1)}, pixels.size(2), pixels.scalar_type());
  expect_ok(spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1));
  const void* data = pixels.const_data_ptr();
  std::size_t data_bytes = pixels.nbytes();
  std::vector<std::uint8_t> indices, exif;
  if (original) {
    const PngReader reader(original->bytes, kAnyNumberOfPixels);
    reader.note_losses(original->lost);
    if (!reader.palette().empty()) {
      indices = nearest_colours(pixels, reader.palette());
      header.color_type = SPNG_COLOR_TYPE_INDEXED;
      data = indices.data();
      data_bytes = indices.size();
    }
    expect_ok(spng_set_ihdr(context.get(), &header));
    reader.give_palette_to(context.get());
    const std::vector<Chunk> chunks = chunks_of(original->bytes);
    const auto note = std::ranges::find(chunks, "eXIf", &Chunk::type);
    if (note != chunks.end() && note->data.size() > 4) {
      exif = upright_exif(note->data);
      spng_exif block{exif.size(), reinterpret_cast<char*>(exif.data())};
      if (spng_set_exif(context.get(), &block) != SPNG_OK) {
        original->lost.emplace_back("its EXIF");
      }
    }
  } else {
    expect_ok(spng_set_ihdr(context.get(), &header));
  }
  expect_ok(spng_encode_image(context.get(), data, data_bytes, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE));
  std::size_t size = 0;
  int code = SPNG_OK;
  const Handle<void, std::free> buffer(spng_get_png_buffer(context.get(), &size, &code));
  expect_ok(code);
  const auto* begin = static_cast<const std::uint8_t*>(buffer.get());
  std::vector<std::uint8_t> png(begin, begin + size);
  if (original) take_notes(png, *original);
  return png;
}

class PngFile final : public PictureFile {
public:
  PngFile(const std::filesystem::path& path, const PictureShape& shape,
          std::vector<std::string>* lost)
      : path_(path), output_(path), encoder_(new_encoder()) {
    if (!shape.like.path.empty() && lost != nullptr) note_losses(shape.like, *lost);
    spng_ihdr header = header_of(shape.size, shape.channels, shape.type);
    expect(spng_set_png_stream(encoder_.get(), write_stream, this));
    expect(spng_set_ihdr(encoder_.get(), &header));
    expect(spng_encode_image(encoder_.get(), nullptr, 0, SPNG_FMT_PNG,
                             SPNG_ENCODE_PROGRESSIVE | SPNG_ENCODE_FINALIZE));
  }

  void write(const torch::Tensor& rows) override {
    const torch::Tensor pixels = to_rows(rows);
    const auto bytes = static_cast<std::size_t>(pixels.stride(0)) * pixels.element_size();
    const auto* row = static_cast<const std::uint8_t*>(pixels.const_data_ptr());
    for (std::int64_t y = 0; y < pixels.size(0); ++y, row += bytes) {
      const int code = spng_encode_row(encoder_.get(), row, bytes);
      if (code != SPNG_EOI) expect(code);
    }
  }

  void commit() override { output_.commit(); }

private:
  static void note_losses(const ImageFile& like, std::vector<std::string>& lost) {
    const MappedFile file(open_image(like));
    const PngReader reader(file.bytes(), kAnyNumberOfPixels);
    reader.note_losses(lost);
    if (!reader.palette().empty()) lost.emplace_back("its palette (written in tiles)");
    if (reader.has_notes()) {
      lost.emplace_back("what stands beside its pixels (written in tiles)");
    }
  }

  static int write_stream(spng_ctx*, void* file, void* from, std::size_t count) {
    auto& self = *static_cast<PngFile*>(file);
    try {
      self.output_.write(from, count);
      return SPNG_OK;
    } catch (const std::exception&) {
      self.failure_ = std::current_exception();
      return SPNG_IO_ERROR;  // no exception may pass through spng
    }
  }

  void expect(int code) {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    if (code == SPNG_OK) return;
    throw std::runtime_error("cannot write " + printable(path_.native()) + ": " +
                             spng_strerror(code));
  }

  std::filesystem::path path_;
  AtomicFile output_;
  std::exception_ptr failure_;
  Spng encoder_;  // after what it writes to
};

}  // namespace

std::unique_ptr<PictureFile> new_png_file(const std::filesystem::path& path,
                                          const PictureShape& shape,
                                          std::vector<std::string>* lost) {
  return std::make_unique<PngFile>(path, shape, lost);
}

const Codec kPng = codec_of<PngReader>(encode_png, /*holds_16_bits=*/true);

}  // namespace convae::codec
