#pragma once

// What image_io.cpp shares with the codecs, each of which wraps one image library. Private to
// data/.

#include "convae/core/region.h"
#include "convae/core/tensor.h"
#include "convae/data/image_io.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace convae::codec {

using Bytes = std::span<const std::uint8_t>;

/// A pointer from a C library that `release` frees.
template <auto release>
struct Release {
  void operator()(auto* pointer) const { release(pointer); }
};
template <typename T, auto release>
using Handle = std::unique_ptr<T, Release<release>>;

/// An image as its file stores it, before `info.orientation` is applied: info.height and info.width
/// are the sides of `pixels`.
struct Decoded {
  ImageInfo info;
  torch::Tensor pixels;  ///< (H, W, C) contiguous, as info.bits says
  std::int64_t clipped = 0;
};

/// A picture that is read part by part, as its file stores it.
class PartReader {
public:
  virtual ~PartReader() = default;
  /// (h, w, C) contiguous: see Codec::decode.
  virtual Decoded read(const Region& part) = 0;

  ImageInfo info;
  /// Whether a part is decoded with all that stands beside it: rows from the top down cost the
  /// least.
  bool in_rows = false;
};

struct Original;  // likeness.h

/// What reads and writes a format. All throw ImageError.
struct Codec {
  ImageInfo (*probe)(Bytes bytes, std::int64_t max_pixels);  ///< the header, sides as stored
  /// Of 1, 3 or, for RGBA with colours not composited, 4 channels. Only float32 pixels are in
  /// `range`: see in_range().
  Decoded (*decode)(Bytes bytes, int channels, std::int64_t max_pixels, const ValueRange& range);
  /// (H, W, C) contiguous, C 1 to 4, the last one alpha where it is even. In the likeness of
  /// `original`, unless that is null; only then come float64 pixels, in its numbers.
  std::vector<std::uint8_t> (*encode)(const torch::Tensor& pixels, const Original* original);
  bool holds_16_bits;
  /// A reader of parts of a picture; null where the picture, or every picture of the format, can
  /// only be decoded as a whole. The bytes must outlive it.
  std::unique_ptr<PartReader> (*open)(Bytes bytes, int channels, const ValueRange& range) = nullptr;
};
extern const Codec kJpeg, kPng, kBmp, kTiff, kWebp, kPnm;

/// What readers have.
struct FileReader {
  ImageInfo info;    ///< sides as stored
  ValueRange range;  ///< of float pixels, see in_range(); PNM spreads samples where it is full
  std::int64_t clipped = 0;  ///< of their values
};

/// Of a Reader with has_parts(), decode_part(part, channels), reads_rows() and next_row(): the row
/// before which it cannot go back.
template <typename Reader>
class PartsOf final : public PartReader {
public:
  PartsOf(Bytes bytes, int channels, const ValueRange& range)
      : bytes_(bytes), channels_(channels), range_(range) {
    open();
    info = reader_->info;
    in_rows = reader_->reads_rows();
  }

  bool has_parts() { return reader_->has_parts(); }

  Decoded read(const Region& part) override {
    if (part.rows.begin < reader_->next_row()) open();
    const torch::Tensor pixels = reader_->decode_part(part, channels_);
    return {info, pixels, std::exchange(reader_->clipped, 0)};
  }

private:
  void open() {
    reader_.emplace(bytes_, kAnyArea);
    reader_->range = range_;
  }

  Bytes bytes_;
  int channels_;
  ValueRange range_;
  std::optional<Reader> reader_;
};

template <typename Reader>
std::unique_ptr<PartReader> open_parts(Bytes bytes, int channels, const ValueRange& range) {
  auto parts = std::make_unique<PartsOf<Reader>>(bytes, channels, range);
  return parts->has_parts() ? std::move(parts) : nullptr;
}

/// A codec of a FileReader, Reader(bytes, max_pixels), with decode(channels): probing and decoding
/// share its header code, so they cannot disagree.
template <typename Reader>
constexpr Codec codec_of(std::vector<std::uint8_t> (*encode)(const torch::Tensor&, const Original*),
                         bool holds_16_bits) {
  return {
      [](Bytes bytes, std::int64_t max_pixels) { return Reader(bytes, max_pixels).info; },
      [](Bytes bytes, int channels, std::int64_t max_pixels, const ValueRange& range) -> Decoded {
        Reader reader(bytes, max_pixels);
        reader.range = range;
        const torch::Tensor pixels = reader.decode(channels);
        return {reader.info, pixels, reader.clipped};
      },
      encode, holds_16_bits,
      [] {
        if constexpr (requires(Reader & reader) { reader.has_parts(); }) {
          return &open_parts<Reader>;
        } else {
          return nullptr;
        }
      }()};
}

/// Whether the file begins as a PBM, PGM or PPM.
bool is_pnm(Bytes bytes);
/// The codec of an encoded image, by its content. Throws ImageError where there is none.
const Codec& codec_for(Bytes bytes);

/// (H, W, C) as stored → (H, W, C) as meant to be seen. EXIF 2.32, tag 0x0112: the number says
/// which corner of the scene the first stored row and column lie in.
torch::Tensor oriented(const torch::Tensor& pixels, int orientation);

/// A JPEG at ceil(side / reduction), for a reduction of 1, 2, 4 or 8.
Decoded decode_jpeg_reduced(Bytes bytes, int channels, std::int64_t max_pixels, int reduction);
/// At a quality from 1 to 100, colour at half the resolution (4:2:0).
std::vector<std::uint8_t> encode_jpeg_at(const torch::Tensor& pixels, int quality);

/// Throws std::invalid_argument unless `image` is (C, H, W) with C 1 or 3, uint8 or uint16, or else
/// float32 where that is taken.
void check_image(const torch::Tensor& image, const char* where, bool takes_floats = false);

/// (C, H, W) of any strides → (H, W, C) contiguous, on the CPU.
torch::Tensor to_rows(const torch::Tensor& image);

/// Throws ImageError unless both sides are at least 1 and their product at most `max_pixels`. Call
/// it before allocating anything for the pixels.
void check_size(std::int64_t height, std::int64_t width, std::int64_t max_pixels);

/// Throws ImageError unless both sides are at most `max_side`, the most that `format` can hold.
void check_side(const torch::Tensor& pixels, std::int64_t max_side, std::string_view format);

/// (H, W, C) for the pixels of `info`, uninitialised; or for those of a part of `size`.
torch::Tensor empty_pixels(const ImageInfo& info, int channels);
torch::Tensor empty_pixels(const ImageInfo& info, Size size, int channels);

/// use(the first sample) of pixels of 8 or 16 bits, in their type.
void with_samples(const torch::Tensor& pixels, const auto& use) {
  if (pixels.scalar_type() == at::kUInt16) {
    use(static_cast<std::uint16_t*>(pixels.data_ptr()));
  } else {
    use(pixels.data_ptr<std::uint8_t>());
  }
}

/// Contiguous whole numbers of a file in the places that a fixed `range` gives them, see
/// decode_image(), with those that are clipped counted in `decoded`; others as they are.
torch::Tensor in_range(Decoded& decoded, const ValueRange& range);

/// (H, W, C) uint8 of the same values; 65535 and 1.0 become 255.
torch::Tensor to_8_bits(const torch::Tensor& pixels);

inline bool is_at(Bytes bytes, std::size_t at, std::string_view text) {
  return bytes.size() >= at + text.size() &&
         std::memcmp(bytes.data() + at, text.data(), text.size()) == 0;
}

/// The unsigned number in `count` bytes at `at`, all of which are there.
inline std::uint64_t number_at(Bytes bytes, std::uint64_t at, int count,
                               std::endian order = std::endian::little) {
  std::uint64_t value = 0;
  for (int i = 0; i < count; ++i) {
    value |= std::uint64_t{bytes[at + i]} << 8 * (order == std::endian::little ? i : count - 1 - i);
  }
  return value;
}

/// The orientation, 1 to 8, in a block of EXIF data; 1 where there is none, or no data. `exif` may
/// begin with "Exif\0\0" (JPEG) or with the TIFF header (PNG, WebP).
int exif_orientation(Bytes exif);

}  // namespace convae::codec
