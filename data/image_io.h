#pragma once

#include "convae/core/api.h"
#include "convae/core/tensor.h"
#include "convae/data/options.h"

#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace CONVAE_API convae {

enum class ImageFormat { jpeg, png, bmp, tiff, webp, pnm };
constexpr auto names(ImageFormat) {
  return std::to_array<Name<ImageFormat>>({{ImageFormat::jpeg, "jpeg"},
                                           {ImageFormat::png, "png"},
                                           {ImageFormat::bmp, "bmp"},
                                           {ImageFormat::tiff, "tiff"},
                                           {ImageFormat::webp, "webp"},
                                           {ImageFormat::pnm, "pnm"}});
}

/// Pages of a file are counted up to here.
inline constexpr int kMaxPages = 1000;

/// What an image's header says, known before any pixel is decoded.
struct ImageInfo {
  ImageFormat format{};
  std::int64_t height = 0;  ///< after EXIF orientation
  std::int64_t width = 0;   ///< after EXIF orientation
  int channels = 3;         ///< 1 grey, 3 colour, without alpha; a palette of greys is grey
  bool alpha = false;       ///< has an alpha channel, transparent palette entries or a key colour
  int bits = 8;  ///< of the decoded tensor: 8 (uint8), 16 (uint16) or, for signed, 32-bit and float
                 ///< TIFF, 32 (float32)
  int orientation = 1;         ///< EXIF orientation, 1 to 8
  int pages = 1;               ///< of a TIFF or APNG, up to kMaxPages; only the first is read
  bool premultiplied = false;  ///< colours are stored multiplied by alpha
  bool white_is_zero = false;  ///< a grey TIFF's numbers get darker the larger they are
  std::string remark = {};     ///< on channels that are not read, or read as what they may not be
  friend bool operator==(const ImageInfo&, const ImageInfo&) = default;
};

/// The type of its pixels, as they are decoded and as a file like it is written.
at::ScalarType numbers_type(const ImageInfo& info);

/// An image that cannot be used. what() is one short reason without the file's name, such as
/// "truncated JPEG: the data ends after 61 of 120 rows".
class ImageError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// What a message says of formats: "JPEG, PNG, …".
inline constexpr const char* kReadFormats = "JPEG, PNG, BMP, TIFF, WebP and PGM/PPM";

/// Whether a file that begins with these bytes is of a format that is read; 16 are enough.
bool is_image_start(std::span<const std::uint8_t> bytes);

/// Reads the header of an encoded image. The format is found by content, never by name.
/// Throws ImageError: unknown or unsupported format (GIF and others are named), damaged header,
/// a zero side, or more than `max_pixels` pixels.
ImageInfo probe_image(std::span<const std::uint8_t> bytes,
                      std::int64_t max_pixels = kDefaultMaxPixels);

/// Decodes an image completely → (C, H, W) with C = `channels` (1 or 3, RGB order), of the type
/// that info.bits says, stored in channels-last order (strides 1, W*C, C), EXIF orientation
/// applied. Alpha is composited on white. Grey → RGB repeats; RGB → grey is 0.299 R + 0.587 G +
/// 0.114 B. CMYK becomes RGB. 16-bit samples keep their 16 bits; 1-, 2- and 4-bit samples are
/// spread over 0..255. A float TIFF holds [0,1]. A fixed `range` maps its ends to 0 and 1 (whole
/// numbers to 16 bits, also those of 8), clips what lies beyond and adds its number to `clipped`;
/// where 0 is white, its ends become 1 and 0.
/// An automatic one leaves the file's numbers as they are. With a reduction of
/// 2, 4 or 8, a JPEG comes at 1/reduction of its sides, rounded up, in a fraction of the time.
/// Throws ImageError for a file that ends early or fails its checksum; floats outside [0,1], signed
/// and 32-bit samples at the full range; NaN; a CMYK
/// JPEG without Adobe's marker (its inks may be inverted), a reduction of another format.
/// Memory: about 16 bytes a pixel, 40 for float64 TIFF in planes or huge tiles. Thread-safe.
torch::Tensor decode_image(std::span<const std::uint8_t> bytes, int channels,
                           std::int64_t max_pixels = kDefaultMaxPixels, int reduction = 1,
                           const ValueRange& range = {}, std::int64_t* clipped = nullptr);

/// The reduction with which to decode an image that will be resized to `size`: 8, 4 or 2 for a JPEG
/// that keeps twice that size, else 1.
int decoding_reduction(const ImageInfo& info, Size size);

/// (C, H, W) as stored → as EXIF's `orientation` (1 to 8) means it to be seen.
torch::Tensor turned(const torch::Tensor& image, int orientation);
/// Whether that exchanges the sides.
bool turns_sideways(int orientation);

/// Encodes (C, H, W) with C 1 or 3, uint8 or uint16, any strides.
/// JPEG (quality 95, 4:4:4), WebP (lossless) and BMP hold 8 bits: uint16 input is scaled down.
/// PNG, TIFF and PNM keep 16 bits. Throws ImageError when the format cannot hold the size.
std::vector<std::uint8_t> encode_image(const torch::Tensor& image, ImageFormat format);

/// Encodes (C, H, W) float in [0,1] as the file `original` is: format, type of samples, palette
/// (nearest colours) and alpha as they were, with its resolution, colour profile, EXIF and tags;
/// grey where it is grey. `range` is undone. `lost` gets what cannot be taken over, in words. The
/// colours of an image with alpha are those that give `image` on white. Throws ImageError where
/// `original` cannot be read or has another size.
std::vector<std::uint8_t> encode_like(const torch::Tensor& image,
                                      std::span<const std::uint8_t> original,
                                      std::int64_t max_pixels, const ValueRange& range,
                                      std::vector<std::string>& lost);

/// A JPEG for people to look at: quality 1 to 100, colour at half the resolution.
std::vector<std::uint8_t> encode_small_jpeg(const torch::Tensor& image, int quality);

/// (C, H, W) uint8, uint16 or float32 → the same type at `height` × `width`: area filter where an
/// axis shrinks, linear where it grows.
torch::Tensor resize_image(const torch::Tensor& image, std::int64_t height, std::int64_t width);

}  // namespace convae
