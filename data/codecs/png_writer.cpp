#include "convae/core/files.h"
#include "convae/core/mapped_file.h"
#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/png_parts.h"
#include "convae/data/picture_file.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <span>
#include <stdexcept>
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

void expect_ok(int code) {
  if (code != SPNG_OK) throw ImageError(std::string("cannot encode PNG: ") + spng_strerror(code));
}

void note_losses(const StoredPng& stored, std::vector<std::string>& lost) {
  if (stored.palette.empty() && stored.bit_depth < 8) {
    lost.push_back("samples of " + std::to_string(stored.bit_depth) + " bits (now 8)");
  }
  if (stored.has_key) lost.emplace_back("its key colour (now alpha)");
}

void give_palette(const StoredPng& stored, spng_ctx* encoder) {
  if (stored.palette.empty()) return;
  spng_plte palette{};
  palette.n_entries = static_cast<std::uint32_t>(stored.palette.size());
  for (std::size_t i = 0; i < stored.palette.size(); ++i) {
    const auto& colour = stored.palette[i];
    palette.entries[i] = {colour[0], colour[1], colour[2], 255};
  }
  expect_ok(spng_set_plte(encoder, &palette));
  spng_trns transparency = stored.transparency;
  if (transparency.n_type3_entries > 0) expect_ok(spng_set_trns(encoder, &transparency));
}

/// The dots a metre of the chunk pHYs, across and down, as they are in the upright picture.
void give_dots(Bytes dots, const Original& original, spng_ctx* encoder) {
  if (dots.empty()) return;
  const auto is_set = [&] {
    if (dots.size() != 9) return false;
    spng_phys phys{big_endian_32(dots, 0), big_endian_32(dots, 4), dots[8]};
    if (turns_sideways(original.info.orientation)) std::swap(phys.ppu_x, phys.ppu_y);
    return spng_set_phys(encoder, &phys) == SPNG_OK;
  };
  if (!is_set()) original.lost.emplace_back("its chunk pHYs");
}

/// Notes that say nothing of the type of samples go over as they are, between header and picture.
void take_notes(std::vector<std::uint8_t>& png, const Original& original,
                const std::vector<PngChunk>& chunks) {
  static constexpr std::string_view kOfColours[] = {"iCCP", "sRGB", "cHRM"};
  static constexpr std::string_view kKept[] = {"gAMA", "tEXt", "zTXt", "iTXt",
                                               "tIME", "oFFs", "sCAL"};
  static constexpr std::string_view kOfPlace[] = {"oFFs", "sCAL"};  // before it was turned
  const int orientation = original.info.orientation;
  constexpr std::ptrdiff_t kAfterHeader = 8 + 25;
  std::vector<std::uint8_t> notes;
  for (const PngChunk& chunk : chunks) {
    if (!is_note(chunk) || chunk.type == "eXIf" || chunk.type == "pHYs") continue;
    const auto is_among = [&](std::span<const std::string_view> types) {
      return std::ranges::find(types, chunk.type) != types.end();
    };
    if (is_among(kOfColours) ? original.same_colours
                             : is_among(kKept) && (orientation == 1 || !is_among(kOfPlace))) {
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
  Spng context = new_spng(SPNG_CTX_ENCODER);
  expect_ok(spng_set_option(context.get(), SPNG_IMG_COMPRESSION_LEVEL, kCompressionLevel));
  expect_ok(spng_set_option(context.get(), SPNG_IMG_COMPRESSION_STRATEGY, kStrategy));
  expect_ok(spng_set_option(context.get(), SPNG_FILTER_CHOICE, kFilter));
  return context;
}

class PngFile final : public PictureFile {
public:
  PngFile(const std::filesystem::path& path, const PictureShape& shape,
          std::vector<std::string>* lost)
      : path_(path), output_(path), encoder_(new_encoder()) {
    if (!shape.like.path.empty() && lost != nullptr) note_losses_in_tiles(shape.like, *lost);
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
  static void note_losses_in_tiles(const ImageFile& like, std::vector<std::string>& lost) {
    const MappedFile file(open_image(like));
    StoredPng stored = stored_png(file.bytes());
    stored.has_key = false;  // its alpha, which is not kept either
    note_losses(stored, lost);
    if (!stored.palette.empty()) lost.emplace_back("its palette (written in tiles)");
    if (std::ranges::any_of(chunks_of(file.bytes()), is_note)) {
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

std::vector<std::uint8_t> encode_png(const torch::Tensor& pixels, const Original* original) {
  const auto context = new_encoder();
  spng_ihdr header =
      header_of({pixels.size(0), pixels.size(1)}, pixels.size(2), pixels.scalar_type());
  expect_ok(spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1));
  const void* data = pixels.const_data_ptr();
  std::size_t data_bytes = pixels.nbytes();
  const StoredPng stored = original ? stored_png(original->bytes) : StoredPng{};
  const std::vector<PngChunk> chunks =
      original ? chunks_of(original->bytes) : std::vector<PngChunk>{};
  std::vector<std::uint8_t> indices, exif;
  if (!stored.palette.empty()) {
    indices = nearest_colours(pixels, stored.palette);
    header.color_type = SPNG_COLOR_TYPE_INDEXED;
    data = indices.data();
    data_bytes = indices.size();
  }
  expect_ok(spng_set_ihdr(context.get(), &header));
  give_palette(stored, context.get());
  if (original) {
    note_losses(stored, original->lost);
    give_dots(data_of(chunks, "pHYs"), *original, context.get());
    exif = upright_exif(data_of(chunks, "eXIf"));
    spng_exif block{exif.size(), reinterpret_cast<char*>(exif.data())};
    if (exif.size() > 4 && spng_set_exif(context.get(), &block) != SPNG_OK) {
      original->lost.emplace_back("its EXIF");
    }
  }
  expect_ok(spng_encode_image(context.get(), data, data_bytes, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE));
  std::size_t size = 0;
  int code = SPNG_OK;
  const Handle<void, std::free> buffer(spng_get_png_buffer(context.get(), &size, &code));
  expect_ok(code);
  const auto* begin = static_cast<const std::uint8_t*>(buffer.get());
  std::vector<std::uint8_t> png(begin, begin + size);
  if (original) take_notes(png, *original, chunks);
  return png;
}

std::unique_ptr<PictureFile> new_png_file(const std::filesystem::path& path,
                                          const PictureShape& shape,
                                          std::vector<std::string>* lost) {
  return std::make_unique<PngFile>(path, shape, lost);
}

}  // namespace convae::codec
