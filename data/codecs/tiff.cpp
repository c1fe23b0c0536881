#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/pixel_rows.h"
#include "convae/data/codecs/tiff_parts.h"

#include <c10/util/Half.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace convae::codec {
namespace {

constexpr std::int64_t kMaxBlockPixels = 1 << 22;
/// Where a block has more bytes than this, its pixels must have no more than that.
constexpr std::int64_t kMostBlockBytes = 1 << 29, kMostPixelBytes = 64;

class TiffReader : public FileReader {
public:
  TiffReader(Bytes bytes, std::int64_t max_pixels) {
    file_.bytes = bytes;
    tiff_ = open_tiff("r", file_);
    if (!tiff_) fail();
    const Pages pages = find_pages(bytes);
    if (pages.count == 0 && pages.is_cut) {
      throw ImageError("truncated TIFF: all but its preview lies beyond the end");
    }
    if (pages.first > 0 && !TIFFSetDirectory(tiff_.get(), static_cast<tdir_t>(pages.first))) fail();
    std::uint32_t height = 0, width = 0;
    TIFFGetField(tiff_.get(), TIFFTAG_IMAGELENGTH, &height);
    TIFFGetField(tiff_.get(), TIFFTAG_IMAGEWIDTH, &width);
    check_size(height, width, max_pixels);
    info.format = ImageFormat::tiff;
    info.height = height;
    info.width = width;
    const int orientation = tag(TIFFTAG_ORIENTATION);
    info.orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
    read_samples();
    read_colours(pages.is_indexed);
    read_blocks();
    if (pages.count == 0) info.remark = "only a preview of another picture is in it";
    info.pages =
        std::max(pages.count, noted_planes(tiff_.get(), {info.height, info.width}, samples_));
  }

  torch::Tensor decode(int channels) {
    return decode_part(whole({info.height, info.width}), channels);
  }

  /// Whether little more than a part is decoded for it.
  bool has_parts() const { return block_height_ * block_width_ <= kMaxBlockPixels; }
  bool reads_rows() const { return !tiled_; }
  static std::int64_t next_row() { return 0; }  // it goes back by itself

  torch::Tensor decode_part(const Region& part, int channels) {
    file_.error[0] = '\0';
    file_.warnings_are_errors = true;
    auto pixels = empty_pixels(info, part.size(), channels);
    if (info.bits == 32) {
      decode_blocks(part, pixels.data_ptr<float>(), channels);
    } else {
      with_samples(pixels, [&](auto* to) { decode_blocks(part, to, channels); });
    }
    return pixels;
  }

  const Palette& palette() const { return palette_; }
  TIFF* handle() const { return tiff_.get(); }

  /// use(0) of the type that samples have which are no integers of 1 to 16 bits without a sign.
  template <typename Use>
  auto with_sample(const Use& use) const {
    if (is_float_) return bits_ == 16 ? use(c10::Half()) : bits_ == 32 ? use(0.0F) : use(0.0);
    if (!is_signed_) return bits_ == 32 ? use(std::uint32_t{}) : use(std::uint64_t{});
    return bits_ == 8    ? use(std::int8_t{})
           : bits_ == 16 ? use(std::int16_t{})
           : bits_ == 32 ? use(std::int32_t{})
                         : use(std::int64_t{});
  }

  /// The samples of `pixels`, float64 in the file's numbers, as the file stores them.
  std::vector<std::uint8_t> stored(const torch::Tensor& pixels) const {
    return with_sample([&](auto sample) { return stored_as<decltype(sample)>(pixels); });
  }

  void note_losses(std::vector<std::string>& lost) const {
    if (bits_ < 8 && palette_.empty()) {
      lost.push_back(fmt::format("samples of {} bits (now 8)", bits_));
    }
    if (photometric_ == PHOTOMETRIC_SEPARATED) lost.emplace_back("its inks (CMYK)");
  }

  void note_losses_in_tiles(std::vector<std::string>& lost) const {
    note_losses(lost);
    if (!palette_.empty()) lost.emplace_back("its palette (written in tiles)");
    if (info.bits == 32 && !(is_float_ && bits_ == 32)) {
      lost.push_back(kind_ + " (written in tiles: 32-bit float)");
    }
  }

private:
  template <typename Value>
  static std::vector<std::uint8_t> stored_as(const torch::Tensor& pixels) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(pixels.numel()) * sizeof(Value));
    const auto* from = pixels.const_data_ptr<double>();
    for (std::int64_t i = 0; i < pixels.numel(); ++i) {
      double number = from[i];
      if constexpr (std::is_integral_v<Value>) {
        // The greatest 64-bit number is no double: the next below it.
        constexpr int kBeyond = sizeof(Value) == 8 ? 2048 : 0;
        number = std::clamp(std::round(number), double(std::numeric_limits<Value>::lowest()),
                            double(std::numeric_limits<Value>::max() - kBeyond));
      }
      const auto value = static_cast<Value>(number);
      std::memcpy(&bytes[i * sizeof value], &value, sizeof value);
    }
    return bytes;
  }

  [[noreturn]] void fail() const {
    throw ImageError(
        fmt::format("damaged TIFF: {}", file_.error[0] ? file_.error : "a part of it is missing"));
  }

  [[noreturn]] static void refuse(const std::string& what) {
    throw ImageError("unsupported TIFF: " + what);
  }

  int tag(std::uint32_t name) const {  // of type uint16
    std::uint16_t value = 0;
    TIFFGetFieldDefaulted(tiff_.get(), name, &value);
    return value;
  }

  void read_samples() {
    bits_ = tag(TIFFTAG_BITSPERSAMPLE);
    samples_ = tag(TIFFTAG_SAMPLESPERPIXEL);
    separate_ = samples_ > 1 && tag(TIFFTAG_PLANARCONFIG) == PLANARCONFIG_SEPARATE;
    const int format = tag(TIFFTAG_SAMPLEFORMAT);
    is_signed_ = format == SAMPLEFORMAT_INT;
    const bool is_unsigned = format == SAMPLEFORMAT_UINT || format == SAMPLEFORMAT_VOID;
    is_float_ = format == SAMPLEFORMAT_IEEEFP;
    const bool fits = std::has_single_bit<unsigned>(bits_) && bits_ <= 64 &&
                      (is_unsigned || (is_signed_ && bits_ >= 8) || (is_float_ && bits_ >= 16));
    kind_ = fmt::format("{}-bit {}samples", bits_,
                        is_float_     ? "float "
                        : is_unsigned ? ""
                        : is_signed_  ? "signed integer "
                                      : "complex ");
    if (!fits) refuse(kind_);
    info.bits = is_float_ || is_signed_ || bits_ > 16 ? 32 : bits_ == 16 ? 16 : 8;
    const int compression = tag(TIFFTAG_COMPRESSION);
    if (compression == COMPRESSION_OJPEG || !TIFFIsCODECConfigured(compression)) {
      const auto* codec = TIFFFindCODEC(compression);
      refuse(codec ? fmt::format("{} compression", codec->name)
                   : fmt::format("compression {}", compression));
    }
  }

  void read_colours(bool is_indexed) {
    photometric_ = samples_ >= 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK;
    TIFFGetField(tiff_.get(), TIFFTAG_PHOTOMETRIC, &photometric_);
    // libtiff takes them for grey, and three samples, which are no indices, for RGB.
    if (is_indexed && photometric_ == PHOTOMETRIC_MINISBLACK) {
      throw ImageError("damaged TIFF: a palette image without a palette");
    }
    switch (photometric_) {
      case PHOTOMETRIC_MINISWHITE:
        colours_ = 1;
        info.white_is_zero = true;
        break;
      // Cameras and scanners note RGB so; of two samples, the second is no colour.
      case PHOTOMETRIC_MINISBLACK: colours_ = samples_ >= 3 ? 3 : 1; break;
      case PHOTOMETRIC_YCBCR:
        // libtiff turns YCbCr to RGB for JPEG compression only, and not plane by plane.
        if (tag(TIFFTAG_COMPRESSION) != COMPRESSION_JPEG) refuse("YCbCr without JPEG compression");
        if (separate_) refuse("YCbCr in separate planes");
        TIFFSetField(tiff_.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        [[fallthrough]];
      case PHOTOMETRIC_RGB: colours_ = 3; break;
      case PHOTOMETRIC_PALETTE:
        colours_ = 1;
        read_palette();
        break;
      case PHOTOMETRIC_SEPARATED:
        if (tag(TIFFTAG_INKSET) != INKSET_CMYK) refuse("inks other than CMYK");
        if (info.bits == 32) refuse("CMYK of " + kind_);
        colours_ = 4;
        break;
      default:
        refuse(
            fmt::format("photometric interpretation {} (grey, RGB, palette, CMYK and JPEG's YCbCr "
                        "are read)",
                        photometric_));
    }
    read_alpha();
    info.channels = colours_ == 1 && is_grey(palette_) ? 1 : 3;
  }

  void read_palette() {
    if (info.bits == 32 || bits_ > 8) refuse(fmt::format("palette of {}-bit samples", bits_));
    std::uint16_t* planes[3] = {};
    if (!TIFFGetField(tiff_.get(), TIFFTAG_COLORMAP, &planes[0], &planes[1], &planes[2])) fail();
    const std::int64_t entries = std::int64_t{1} << bits_;
    // Entries have 16 bits, but some writers fill them as if they had 8.
    const bool narrow = std::all_of(planes, planes + 3, [entries](const auto* plane) {
      return std::all_of(plane, plane + entries, [](auto value) { return value < 256; });
    });
    const auto value = [&](int c, std::int64_t i) {
      return static_cast<std::uint8_t>(planes[c][i] >> (narrow ? 0 : 8));
    };
    for (std::int64_t i = 0; i < entries; ++i) {
      palette_.push_back({value(0, i), value(1, i), value(2, i), 255});
    }
  }

  void read_alpha() {
    std::uint16_t count = 0;
    std::uint16_t* kinds = nullptr;
    TIFFGetFieldDefaulted(tiff_.get(), TIFFTAG_EXTRASAMPLES, &count, &kinds);
    const int extra = samples_ - colours_;
    bool alpha = extra >= 1 && count >= 1 && kinds && kinds[0] != EXTRASAMPLE_UNSPECIFIED;
    if (extra < 0 || (alpha && (colours_ == 4 || photometric_ == PHOTOMETRIC_PALETTE))) {
      refuse(fmt::format("{} samples a pixel with photometric interpretation {}", samples_,
                         photometric_));
    }
    alpha = alpha && info.bits < 32;  // beside such numbers it has a scale of its own
    info.alpha = alpha;
    info.premultiplied = alpha && kinds[0] == EXTRASAMPLE_ASSOCALPHA;
    const int read = used();
    if (samples_ > read) {
      info.remark = fmt::format("only {} of its {} channels {} read", read, samples_,
                                read == 1 ? "is" : "are");
    } else if (alpha && !info.premultiplied && colours_ == 3) {
      info.remark =
          "its fourth channel is noted as alpha and put on white; if it is another band, such as "
          "infrared, leave it out of the file";
    }
  }

  /// A block is what is read at once: a tile, a strip of each plane, or, where libtiff can give
  /// single rows, one row.
  void read_blocks() {
    tiled_ = TIFFIsTiled(tiff_.get()) != 0;
    std::uint32_t height = 1, width = static_cast<std::uint32_t>(info.width);
    if (tiled_) {
      TIFFGetField(tiff_.get(), TIFFTAG_TILEWIDTH, &width);
      TIFFGetField(tiff_.get(), TIFFTAG_TILELENGTH, &height);
    } else if (separate_) {
      TIFFGetFieldDefaulted(tiff_.get(), TIFFTAG_ROWSPERSTRIP, &height);
      height = static_cast<std::uint32_t>(std::min<std::int64_t>(height, info.height));
    }
    block_height_ = height;
    block_width_ = width;
    if (height == 0 || width == 0 ||
        block_height_ > std::max(kMaxBlockPixels, info.height * info.width) / block_width_) {
      throw ImageError(fmt::format("damaged TIFF: tiles of {} x {} pixels", width, height));
    }
    loaded_ = separate_ ? used() : samples_;
    planes_ = separate_ ? loaded_ : 1;
    row_bytes_ = (block_width_ * (separate_ ? 1 : samples_) * bits_ + 7) / 8;
    const auto expected = tiled_ ? TIFFTileRowSize(tiff_.get()) : TIFFScanlineSize(tiff_.get());
    if (row_bytes_ != expected) {
      throw ImageError(
          fmt::format("damaged TIFF: rows of {} bytes, expected {}", expected, row_bytes_));
    }
    const std::int64_t bytes = planes_ * row_bytes_;  // of all planes
    if (bytes > kMostPixelBytes * block_width_ && bytes > kMostBlockBytes / block_height_) {
      refuse(fmt::format("{} samples a pixel, read {} x {} pixels at once", samples_, block_width_,
                         block_height_));
    }
  }

  /// Samples of a pixel that count.
  int used() const { return colours_ + (info.alpha ? 1 : 0); }

  /// Reads all blocks that `part` touches.
  template <typename Sample>
  void decode_blocks(const Region& part, Sample* to, int channels) {
    std::vector<std::uint8_t> block(planes_ * block_height_ * row_bytes_);
    std::vector<Sample> samples(block_width_ * (loaded_ + 1));
    std::vector<Sample> colours(block_width_ * 4);
    if (!tiled_ && !separate_) go_to_row(part.rows.begin, block.data());
    const auto [first, end] = part.columns;
    for (std::int64_t top = part.rows.begin / block_height_ * block_height_; top < part.rows.end;
         top += block_height_) {
      const auto rows = std::min(block_height_, info.height - top);
      const auto last = std::min(top + rows, part.rows.end);
      for (std::int64_t left = first / block_width_ * block_width_; left < end;
           left += block_width_) {
        const auto columns = std::min(block_width_, info.width - left);
        read_block(top, left, rows, block.data());
        const auto from = std::max(left, first), count = std::min(left + columns, end) - from;
        for (std::int64_t y = std::max(top, part.rows.begin); y < last; ++y) {
          load_samples(&block[(y - top) * row_bytes_], columns, samples.data());
          Sample* row = to + (y - part.rows.begin) * (end - first) * channels;
          convert_samples(&samples[(from - left) * loaded_], count, colours.data(),
                          row + (from - first) * channels, channels);
        }
      }
    }
  }

  /// Single rows are read one after the other, from the beginning of a strip on.
  void go_to_row(std::int64_t row, std::uint8_t* unused) {
    std::uint32_t rows = 0;
    TIFFGetFieldDefaulted(tiff_.get(), TIFFTAG_ROWSPERSTRIP, &rows);
    const std::int64_t strip = row / std::max<std::int64_t>(rows, 1) * rows;
    if (next_row_ < strip || next_row_ > row) next_row_ = strip;
    while (next_row_ < row) read_block(next_row_, /*left=*/0, /*rows=*/1, unused);
  }

  void read_block(std::int64_t top, std::int64_t left, std::int64_t rows, std::uint8_t* to) {
    const auto y = static_cast<std::uint32_t>(top), x = static_cast<std::uint32_t>(left);
    for (int plane = 0; plane < planes_; ++plane, to += block_height_ * row_bytes_) {
      const auto sample = static_cast<std::uint16_t>(plane);
      const auto expected = (tiled_ ? block_height_ : rows) * row_bytes_;
      bool complete = false;
      if (tiled_) {
        complete = TIFFReadEncodedTile(tiff_.get(), TIFFComputeTile(tiff_.get(), x, y, 0, sample),
                                       to, expected) == expected;
      } else if (separate_) {
        complete = TIFFReadEncodedStrip(tiff_.get(), TIFFComputeStrip(tiff_.get(), y, sample), to,
                                        expected) == expected;
      } else {
        complete = TIFFReadScanline(tiff_.get(), to, y, sample) == 1;
        next_row_ = top + 1;
      }
      if (!complete || file_.error[0] != '\0') fail();
    }
  }

  /// One row of a block → interleaved samples over the full range of `Sample`, palette indices
  /// excepted. Planes follow each other at the distance of a block; those not used are not read.
  template <typename Sample>
  void load_samples(const std::uint8_t* row, std::int64_t columns, Sample* to) {
    if (!separate_) return load_plane(row, columns * loaded_, to);
    Sample* plane_row = to + columns * loaded_;  // decode_blocks made room for it
    for (int plane = 0; plane < planes_; ++plane, row += block_height_ * row_bytes_) {
      load_plane(row, columns, plane_row);
      for (std::int64_t x = 0; x < columns; ++x) to[x * loaded_ + plane] = plane_row[x];
    }
  }

  void load_plane(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) const {
    if (bits_ == 8) return void(std::copy_n(from, count, to));
    unpack_bits(from, bits_, count, to);
    if (photometric_ == PHOTOMETRIC_PALETTE) return;
    const int most = (1 << bits_) - 1;
    for (auto& value : std::span(to, count)) value = static_cast<std::uint8_t>(value * 255 / most);
  }

  static void load_plane(const std::uint8_t* from, std::int64_t count, std::uint16_t* to) {
    std::memcpy(to, from, count * sizeof *to);
  }

  void load_plane(const std::uint8_t* from, std::int64_t count, float* to) {
    if (!is_float_ && range.kind == ValueRange::Kind::full) {
      throw ImageError("unsupported TIFF: " + kind_ +
                       " have no range of their own; train with --value-range auto or LO:HI");
    }
    with_sample([&](auto sample) { load_values<decltype(sample)>(from, count, to); });
  }

  template <typename Value>
  void load_values(const std::uint8_t* from, std::int64_t count, float* to) {
    for (std::int64_t i = 0; i < count; ++i) {
      Value value;
      std::memcpy(&value, from + i * sizeof value, sizeof value);
      to[i] = placed(static_cast<double>(value));
    }
  }

  /// A number of the file, where `range` has it.
  float placed(double value) {
    if (range.kind == ValueRange::Kind::full && !(value >= 0 && value <= 1)) {  // NaN as well
      throw ImageError(fmt::format(
          "unsupported TIFF: a float sample is {:f}, outside [0, 1]; see --value-range", value));
    }
    if (std::isnan(value) || (std::isinf(value) && !range.is_fixed())) {
      throw ImageError("unsupported TIFF: a float sample is not a finite number");
    }
    if (!range.is_fixed()) return static_cast<float>(value);
    const double place = (value - range.low) / (range.high - range.low);
    // As far as a float can tell: the range may have been measured of floats.
    clipped += static_cast<float>(std::abs(2 * place - 1)) > 1 ? 1 : 0;
    return static_cast<float>(std::clamp(place, 0.0, 1.0));
  }

  template <typename Sample>
  static Sample inverted(Sample value) {
    constexpr bool is_float = std::is_same_v<Sample, float>;
    return static_cast<Sample>((is_float ? 1 : std::numeric_limits<Sample>::max()) - value);
  }

  template <typename Sample>
  void convert_samples(Sample* from, std::int64_t columns, Sample* colours, Sample* to,
                       int channels) const {
    if (loaded_ > used()) {
      for (std::int64_t x = 1; x < columns; ++x) {
        std::copy_n(from + x * loaded_, used(), from + x * used());
      }
    }
    // Where 0 is white: in a range, whole numbers stay those of the file, see in_range(), and are
    // inverted only while alpha is put on white; floats are unless the range is yet to be measured.
    constexpr bool is_float = std::is_same_v<Sample, float>;
    const bool is_full = range.kind == ValueRange::Kind::full;
    const bool inverts =
        info.white_is_zero && (is_full || (is_float ? range.is_fixed() : info.alpha));
    if (inverts) {
      const int step = used();
      for (std::int64_t x = 0; x < columns; ++x) from[x * step] = inverted(from[x * step]);
    }
    if (photometric_ == PHOTOMETRIC_PALETTE) {
      if constexpr (sizeof(Sample) == 1) {  // as read_palette() insists
        look_up(from, columns, palette_, "TIFF", colours);
        convert_pixels(colours, kRgbaPixels, columns, to, channels);
      }
    } else if (colours_ == 4) {
      if constexpr (!std::is_same_v<Sample, float>) {  // as read_colours() insists
        cmyk_to_rgb(from, columns, /*inverted=*/false, colours);
        convert_pixels(colours, kRgbPixels, columns, to, channels);
      }
    } else {
      const Layout layout{colours_, info.alpha, info.premultiplied};
      convert_pixels(from, layout, columns, to, channels);
    }
    if (inverts && !is_float && !is_full) {
      for (std::int64_t x = 0; x < columns; ++x, to += channels) {
        for (int c = 0; c < std::min(channels, 3); ++c) to[c] = inverted(to[c]);
      }
    }
  }

  TiffMemory file_;
  Tiff tiff_;        // after what it points to
  int bits_ = 0;     // of a stored sample
  int samples_ = 0;  // stored per pixel
  int colours_ = 0;  // samples without alpha or padding
  int loaded_ = 0;   // of a pixel: with separate planes, those that are used
  std::uint16_t photometric_ = 0;
  bool is_float_ = false, is_signed_ = false;
  std::string kind_;       // of samples, such as "16-bit float samples"
  bool separate_ = false;  // planes one after the other
  bool tiled_ = false;
  int planes_ = 1;
  std::int64_t block_height_ = 0;
  std::int64_t block_width_ = 0;
  std::int64_t row_bytes_ = 0;  // of one plane in one block
  std::int64_t next_row_ = 0;   // after the one last read, where single rows are read
  Palette palette_;
};

void write_palette(TIFF* tiff, const Palette& palette) {
  std::vector<std::uint16_t> planes[3];
  for (int c = 0; c < 3; ++c) {
    for (const auto& colour : palette) {
      planes[c].push_back(static_cast<std::uint16_t>(colour[c] * 257));
    }
    planes[c].resize(256);
  }
  TIFFSetField(tiff, TIFFTAG_COLORMAP, planes[0].data(), planes[1].data(), planes[2].data());
}

std::vector<std::uint8_t> encode_tiff(const torch::Tensor& pixels, const Original* original) {
  const auto height = pixels.size(0), width = pixels.size(1);
  std::optional<TiffReader> after;
  std::vector<std::uint8_t> stored;  // where it is not what `pixels` has
  if (original) {
    after.emplace(original->bytes, kAnyArea);
    after->note_losses(original->lost);
    if (after->info.bits == 32) stored = after->stored(pixels);
    if (!after->palette().empty()) stored = nearest_colours(pixels, after->palette());
  }
  const bool indexed = after && !after->palette().empty();
  const auto channels = indexed ? 1 : pixels.size(2);
  const auto size = stored.empty() ? pixels.nbytes() : stored.size();
  const auto bits =
      static_cast<int>(8 * size / static_cast<std::size_t>(height * width * channels));
  std::uint16_t format = SAMPLEFORMAT_UINT;
  if (after && after->info.bits == 32) {
    TIFFGetFieldDefaulted(after->handle(), TIFFTAG_SAMPLEFORMAT, &format);
  }
  const int photometric = indexed                              ? PHOTOMETRIC_PALETTE
                          : channels >= 3                      ? PHOTOMETRIC_RGB
                          : after && after->info.white_is_zero ? PHOTOMETRIC_MINISWHITE
                                                               : PHOTOMETRIC_MINISBLACK;
  TiffMemory file;
  Tiff tiff = new_tiff(
      file, {height, width, channels, bits, static_cast<std::uint16_t>(photometric), format});
  const auto expect = [&](bool done) {
    if (!done) throw ImageError(fmt::format("cannot encode TIFF: {}", file.error));
  };
  expect(tiff != nullptr);
  auto* handle = tiff.get();
  if (channels % 2 == 0) {
    const bool premultiplied = original && original->info.premultiplied;
    const std::uint16_t kind = premultiplied ? EXTRASAMPLE_ASSOCALPHA : EXTRASAMPLE_UNASSALPHA;
    TIFFSetField(handle, TIFFTAG_EXTRASAMPLES, 1, &kind);
  }
  if (indexed) write_palette(handle, after->palette());
  if (after) take_tags(after->handle(), handle, *original);
  TIFFSetField(handle, TIFFTAG_ROWSPERSTRIP, TIFFDefaultStripSize(handle, 0));
  const auto stride = static_cast<std::int64_t>(size) / height;
  // The predictor works in place, so that a row must be a copy.
  std::vector<std::uint8_t> row(stride);
  const auto* from =
      stored.empty() ? static_cast<const std::uint8_t*>(pixels.const_data_ptr()) : stored.data();
  for (std::int64_t y = 0; y < height; ++y) {
    std::copy_n(from + y * stride, stride, row.data());
    expect(TIFFWriteScanline(handle, row.data(), static_cast<std::uint32_t>(y), 0) == 1);
  }
  expect(TIFFFlush(handle) == 1);
  tiff.reset();
  return std::move(file.output);
}

}  // namespace

void take_tags_in_tiles(Bytes like, TIFF* to, std::int64_t channels,
                        std::vector<std::string>& lost) {
  TiffReader reader(like, kAnyArea);
  reader.note_losses_in_tiles(lost);
  if (reader.info.white_is_zero) TIFFSetField(to, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISWHITE);
  take_tags(reader.handle(), to, {like, reader.info, lost, reader.info.channels == channels});
}

const Codec kTiff = codec_of<TiffReader>(encode_tiff, /*holds_16_bits=*/true);

}  // namespace convae::codec
