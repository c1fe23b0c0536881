#include "convae/data/image_io.h"

#include "convae/data/codecs/codecs.h"
#include "convae/data/mat.h"

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <limits>
#include <utility>

namespace convae {
namespace {

using codec::Bytes;
using codec::Decoded;

struct Codec {
  ImageFormat format;
  std::string_view name;
  ImageInfo (*probe)(Bytes, std::int64_t);
  Decoded (*decode)(Bytes, int, std::int64_t);
  std::vector<std::uint8_t> (*encode)(const torch::Tensor&);
  bool holds_16_bits;
};

// In the order of ImageFormat, which is the index.
constexpr Codec kCodecs[] = {
    {ImageFormat::jpeg, "jpeg", codec::probe_jpeg, codec::decode_jpeg, codec::encode_jpeg, false},
    {ImageFormat::png, "png", codec::probe_png, codec::decode_png, codec::encode_png, true},
    {ImageFormat::bmp, "bmp", codec::probe_bmp, codec::decode_bmp, codec::encode_bmp, false},
    {ImageFormat::tiff, "tiff", codec::probe_tiff, codec::decode_tiff, codec::encode_tiff, true},
    {ImageFormat::webp, "webp", codec::probe_webp, codec::decode_webp, codec::encode_webp, false},
};

const Codec& codec_of(ImageFormat format) {
  const auto index = static_cast<std::size_t>(format);
  if (index >= std::size(kCodecs) || kCodecs[index].format != format) {
    throw std::invalid_argument("no such ImageFormat: " + std::to_string(index));
  }
  return kCodecs[index];
}

bool has(Bytes bytes, std::size_t offset, std::string_view magic) {
  return bytes.size() >= offset + magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin() + offset,
                    [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

std::optional<ImageFormat> format_of(Bytes bytes) {
  using namespace std::string_view_literals;
  if (has(bytes, 0, "\xFF\xD8\xFF"sv)) return ImageFormat::jpeg;
  if (has(bytes, 0, "\x89PNG\r\n\x1A\n"sv)) return ImageFormat::png;
  for (const auto magic : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}) {
    if (has(bytes, 0, magic)) return ImageFormat::tiff;
  }
  if (has(bytes, 0, "RIFF"sv) && has(bytes, 8, "WEBP"sv)) return ImageFormat::webp;
  // "BM" alone also begins plain words; the reserved fields of every real BMP are zero.
  if (has(bytes, 0, "BM"sv) && (bytes.size() < 10 || has(bytes, 6, "\0\0\0\0"sv))) {
    return ImageFormat::bmp;
  }
  return std::nullopt;
}

struct OtherFormat {
  std::size_t offset;
  std::string_view magic;
  std::string_view reason;
};

/// What people do hand to an image reader; named so that they know what to do next.
std::string_view reason_to_refuse(Bytes bytes) {
  using namespace std::string_view_literals;
  static constexpr OtherFormat kOthers[] = {
      {0, "GIF8"sv, "GIF is not supported; convert it to PNG"sv},
      {4, "ftypavi"sv, "AVIF is not supported; convert it to PNG"sv},
      {4, "ftyphe"sv, "HEIC is not supported; convert it to JPEG or PNG"sv},
      {4, "ftypmif1"sv, "HEIC is not supported; convert it to JPEG or PNG"sv},
      {4, "ftypmsf1"sv, "HEIC is not supported; convert it to JPEG or PNG"sv},
      {0, "\0\0\0\x0CjP  "sv, "JPEG 2000 is not supported; convert it to PNG"sv},
      {0, "\xFF\x4F\xFF\x51"sv, "JPEG 2000 is not supported; convert it to PNG"sv},
      {0, "\0\0\0\x0CJXL "sv, "JPEG XL is not supported; convert it to PNG"sv},
      {0, "\xFF\x0A"sv, "JPEG XL is not supported; convert it to PNG"sv},
      {0, "8BPS"sv, "PSD is not supported; convert it to PNG"sv},
      {0, "%PDF"sv, "not an image: a PDF document"sv},
      {0, "<svg"sv, "SVG is not supported; convert it to PNG"sv},
      {0, "P5"sv, "PGM is not supported; convert it to PNG"sv},
      {0, "P6"sv, "PPM is not supported; convert it to PNG"sv},
      {0, "\x76\x2F\x31\x01"sv, "OpenEXR is not supported; convert it to a float TIFF"sv},
      {0, "#?RADIANCE"sv, "Radiance HDR is not supported; convert it to a float TIFF"sv},
      {0, "\x93NUMPY"sv, "not an image: a NumPy array"sv},
      {0, "PK\x03\x04"sv, "not an image: a ZIP archive"sv},
      {0, "version https://git-lfs"sv,
       "not an image: a Git LFS pointer; fetch the file itself with \"git lfs pull\""sv},
      {0, "<!DOCTYPE html"sv, "not an image: an HTML page, as a failed download leaves"sv},
      {0, "<!doctype html"sv, "not an image: an HTML page, as a failed download leaves"sv},
      {0, "<html"sv, "not an image: an HTML page, as a failed download leaves"sv},
  };
  for (const auto& other : kOthers) {
    if (has(bytes, other.offset, other.magic)) return other.reason;
  }
  if (has(bytes, 0, "<?xml"sv)) {
    const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                                std::min<std::size_t>(bytes.size(), 4096));
    if (head.find("<svg") != std::string_view::npos) {
      return "SVG is not supported; convert it to PNG"sv;
    }
  }
  return {};
}

const Codec& codec_for(Bytes bytes) {
  if (bytes.empty()) {
    throw ImageError("empty file (0 bytes)");
  }
  if (const auto format = format_of(bytes)) {
    return codec_of(*format);
  }
  if (const auto reason = reason_to_refuse(bytes); !reason.empty()) {
    throw ImageError(std::string(reason));
  }
  std::string reason = "not an image: starts with bytes";
  for (const std::uint8_t byte : bytes.first(std::min<std::size_t>(bytes.size(), 8))) {
    char hex[4];
    std::snprintf(hex, sizeof hex, " %02x", byte);
    reason += hex;
  }
  throw ImageError(reason);
}

/// EXIF orientations 5 to 8 exchange the sides.
bool turns_sideways(int orientation) { return orientation >= 5; }

/// (H, W, C) as stored → (H, W, C) as meant to be seen. EXIF 2.32, tag 0x0112: the number says
/// which corner of the scene the first stored row and column lie in.
torch::Tensor oriented(const torch::Tensor& pixels, int orientation) {
  if (orientation == 1) {
    return pixels;
  }
  const auto height = pixels.size(0), width = pixels.size(1);
  auto turned = turns_sideways(orientation)
                    ? torch::empty({width, height, pixels.size(2)}, pixels.options())
                    : torch::empty_like(pixels);
  const cv::Mat from = mat_view(pixels);
  cv::Mat to = mat_view(turned);
  switch (orientation) {
    case 2:
      cv::flip(from, to, /*flipCode=*/1);  // left and right
      break;
    case 3:
      cv::flip(from, to, /*flipCode=*/-1);  // both
      break;
    case 4:
      cv::flip(from, to, /*flipCode=*/0);  // top and bottom
      break;
    case 5:
      cv::transpose(from, to);
      break;
    case 6:
      cv::rotate(from, to, cv::ROTATE_90_CLOCKWISE);
      break;
    case 7:
      cv::transpose(from, to);
      cv::flip(to, to, /*flipCode=*/-1);
      break;
    case 8:
      cv::rotate(from, to, cv::ROTATE_90_COUNTERCLOCKWISE);
      break;
  }
  // OpenCV writes into the memory it was given only while size and type fit.
  TORCH_INTERNAL_ASSERT(to.data == turned.data_ptr());
  return turned;
}

/// Throws std::invalid_argument unless `image` is (C, H, W) with C 1 or 3, uint8 or uint16.
void check_image(const torch::Tensor& image, const char* where) {
  const bool shape_fits = image.dim() == 3 && (image.size(0) == 1 || image.size(0) == 3) &&
                          image.size(1) > 0 && image.size(2) > 0;
  if (!shape_fits ||
      (image.scalar_type() != torch::kUInt8 && image.scalar_type() != torch::kUInt16)) {
    std::string shape;
    for (const auto side : image.sizes()) {
      shape += (shape.empty() ? "" : ", ") + std::to_string(side);
    }
    throw std::invalid_argument(std::string(where) +
                                ": expected (1 or 3, H, W) uint8 or uint16, but got (" + shape +
                                ") " + torch::toString(image.scalar_type()));
  }
}

torch::Tensor to_rows(const torch::Tensor& image) {  // (C, H, W) any strides → (H, W, C)
  return image.permute({1, 2, 0}).cpu().contiguous();
}

torch::Tensor resize_once(const torch::Tensor& pixels, std::int64_t height, std::int64_t width,
                          int interpolation) {
  auto resized = torch::empty({height, width, pixels.size(2)}, pixels.options());
  cv::Mat to = mat_view(resized);
  cv::resize(mat_view(pixels), to, to.size(), /*fx=*/0, /*fy=*/0, interpolation);
  TORCH_INTERNAL_ASSERT(to.data == resized.data_ptr());
  return resized;
}

}  // namespace

namespace codec {

void check_size(std::int64_t height, std::int64_t width, std::int64_t max_pixels) {
  const auto sides = std::to_string(width) + " x " + std::to_string(height);
  if (height <= 0 || width <= 0) {
    throw ImageError("no pixels: the header says " + sides);
  }
  if (height > max_pixels / width) {
    throw ImageError("too large: " + sides + " (width x height) is more than the limit of " +
                     std::to_string(max_pixels) + " pixels");
  }
  // OpenCV counts sides, and libraries count rows, in int.
  constexpr std::int64_t kMostPixelsASide = std::numeric_limits<int>::max();
  if (height > kMostPixelsASide || width > kMostPixelsASide) {
    throw ImageError("too large: " + sides + " (width x height) has a side above 2^31");
  }
}

void check_side(const torch::Tensor& pixels, std::int64_t max_side, std::string_view format) {
  if (std::max(pixels.size(0), pixels.size(1)) > max_side) {
    throw ImageError(std::string(format) + " holds at most " + std::to_string(max_side) +
                     " pixels a side, but the image is " + std::to_string(pixels.size(1)) + " x " +
                     std::to_string(pixels.size(0)) + "; write PNG or TIFF");
  }
}

torch::Tensor empty_pixels(const ImageInfo& info, int channels) {
  return torch::empty({info.height, info.width, channels},
                      info.bits == 16 ? torch::kUInt16 : torch::kUInt8);
}

torch::Tensor to_8_bits(const torch::Tensor& pixels) {
  if (pixels.scalar_type() == torch::kUInt8) {
    return pixels;
  }
  auto narrow = torch::empty(pixels.sizes(), torch::kUInt8);
  const auto* from = static_cast<const std::uint16_t*>(pixels.const_data_ptr());
  std::transform(
      from, from + pixels.numel(), narrow.data_ptr<std::uint8_t>(),
      [](std::uint16_t value) { return static_cast<std::uint8_t>((value + 128u) / 257u); });
  return narrow;
}

}  // namespace codec

std::string_view to_string(ImageFormat format) { return codec_of(format).name; }

ImageInfo probe_image(std::span<const std::uint8_t> bytes, std::int64_t max_pixels) {
  auto info = codec_for(bytes).probe(bytes, max_pixels);
  if (turns_sideways(info.orientation)) {
    std::swap(info.height, info.width);
  }
  return info;
}

int decoding_reduction(const ImageInfo& info, Size size) {
  if (info.format != ImageFormat::jpeg) return 1;
  for (const std::int64_t reduction : {8, 4, 2}) {
    if (info.height >= 2 * reduction * size.h && info.width >= 2 * reduction * size.w) {
      return static_cast<int>(reduction);
    }
  }
  return 1;
}

torch::Tensor decode_image(std::span<const std::uint8_t> bytes, int channels,
                           std::int64_t max_pixels, int reduction) {
  if (channels != 1 && channels != 3) {
    throw std::invalid_argument("decode_image: expected 1 or 3 channels, but got " +
                                std::to_string(channels));
  }
  const Codec& codec = codec_for(bytes);
  if (reduction != 1 && codec.format != ImageFormat::jpeg) {
    throw ImageError("it is no JPEG any more");
  }
  const auto decoded = reduction == 1
                           ? codec.decode(bytes, channels, max_pixels)
                           : codec::decode_jpeg_reduced(bytes, channels, max_pixels, reduction);
  return oriented(decoded.pixels, decoded.info.orientation).permute({2, 0, 1});
}

std::vector<std::uint8_t> encode_image(const torch::Tensor& image, ImageFormat format) {
  check_image(image, "encode_image");
  const auto& codec = codec_of(format);
  const auto pixels = to_rows(image);
  return codec.encode(codec.holds_16_bits ? pixels : codec::to_8_bits(pixels));
}

std::vector<std::uint8_t> encode_small_jpeg(const torch::Tensor& image, int quality) {
  check_image(image, "encode_small_jpeg");
  return codec::encode_jpeg_at(codec::to_8_bits(to_rows(image)), quality);
}

torch::Tensor resize_image(const torch::Tensor& image, std::int64_t height, std::int64_t width) {
  check_image(image, "resize_image");
  constexpr std::int64_t kMostPixelsASide = std::numeric_limits<int>::max();
  if (height <= 0 || width <= 0 || height > kMostPixelsASide || width > kMostPixelsASide) {
    throw std::invalid_argument("resize_image: expected positive sides, but got " +
                                std::to_string(height) + " x " + std::to_string(width));
  }
  auto pixels = to_rows(image);
  // INTER_AREA is an area filter only while neither axis grows, so the axes that shrink go
  // first; shrinking first is also the cheaper order.
  const auto smaller_height = std::min(height, pixels.size(0));
  const auto smaller_width = std::min(width, pixels.size(1));
  if (smaller_height < pixels.size(0) || smaller_width < pixels.size(1)) {
    pixels = resize_once(pixels, smaller_height, smaller_width, cv::INTER_AREA);
  }
  if (height > pixels.size(0) || width > pixels.size(1)) {
    pixels = resize_once(pixels, height, width, cv::INTER_LINEAR);
  }
  return pixels.permute({2, 0, 1});
}

}  // namespace convae
