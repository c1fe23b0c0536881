#include "convae/data/image_io.h"

#include "convae/core/machine.h"
#include "convae/data/codecs/codecs.h"
#include "convae/data/mat.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <fmt/format.h>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>

namespace convae {
namespace {

using codec::Bytes;
using codec::Codec;

// OpenCV counts sides, and libraries count rows, in int.
constexpr std::int64_t kMostPixelsASide = std::numeric_limits<int>::max();

const Codec& codec_of_format(ImageFormat format) {
  switch (format) {
    case ImageFormat::jpeg: return codec::kJpeg;
    case ImageFormat::png: return codec::kPng;
    case ImageFormat::bmp: return codec::kBmp;
    case ImageFormat::tiff: return codec::kTiff;
    case ImageFormat::webp: return codec::kWebp;
    case ImageFormat::pnm: return codec::kPnm;
  }
  throw std::invalid_argument("no such ImageFormat");
}

std::optional<ImageFormat> format_of(Bytes bytes) {
  using namespace std::string_view_literals;
  if (codec::is_at(bytes, 0, "\xFF\xD8\xFF"sv)) return ImageFormat::jpeg;
  if (codec::is_at(bytes, 0, "\x89PNG\r\n\x1A\n"sv)) return ImageFormat::png;
  for (const auto magic : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}) {
    if (codec::is_at(bytes, 0, magic)) return ImageFormat::tiff;
  }
  if (codec::is_at(bytes, 0, "RIFF"sv) && codec::is_at(bytes, 8, "WEBP"sv))
    return ImageFormat::webp;
  // "BM" alone also begins plain words; the reserved fields of every real BMP are zero.
  if (codec::is_at(bytes, 0, "BM"sv) &&
      (bytes.size() < 10 || codec::is_at(bytes, 6, "\0\0\0\0"sv))) {
    return ImageFormat::bmp;
  }
  if (codec::is_pnm(bytes)) return ImageFormat::pnm;
  return std::nullopt;
}

/// A format that people try to read as an image, and the way out.
struct OtherFormat {
  std::size_t offset;
  std::string_view magic, name, convert_to;  // without the last: no image at all
};

std::optional<std::string> reason_to_refuse(Bytes bytes) {
  using namespace std::string_view_literals;
  static constexpr auto kHtml = "an HTML page, as a failed download leaves"sv;
  static constexpr OtherFormat kOthers[] = {
      {0, "GIF8"sv, "GIF"sv, "PNG"sv},
      {4, "ftypavi"sv, "AVIF"sv, "PNG"sv},
      {4, "ftyphe"sv, "HEIC"sv, "JPEG or PNG"sv},
      {4, "ftypmif1"sv, "HEIC"sv, "JPEG or PNG"sv},
      {4, "ftypmsf1"sv, "HEIC"sv, "JPEG or PNG"sv},
      {0, "\0\0\0\x0CjP  "sv, "JPEG 2000"sv, "PNG"sv},
      {0, "\xFF\x4F\xFF\x51"sv, "JPEG 2000"sv, "PNG"sv},
      {0, "\0\0\0\x0CJXL "sv, "JPEG XL"sv, "PNG"sv},
      {0, "\xFF\x0A"sv, "JPEG XL"sv, "PNG"sv},
      {0, "8BPS"sv, "PSD"sv, "PNG"sv},
      {0, "%PDF"sv, "a PDF document"sv, ""sv},
      {0, "<svg"sv, "SVG"sv, "PNG"sv},
      {0, "\x76\x2F\x31\x01"sv, "OpenEXR"sv, "a float TIFF"sv},
      {0, "#?RADIANCE"sv, "Radiance HDR"sv, "a float TIFF"sv},
      {0, "\x93NUMPY"sv, "a NumPy array"sv, ""sv},
      {0, "PK\x03\x04"sv, "a ZIP archive"sv, ""sv},
      {0, "version https://git-lfs"sv,
       "a Git LFS pointer; fetch the file itself with \"git lfs pull\""sv, ""sv},
      {0, "<!DOCTYPE html"sv, kHtml, ""sv},
      {0, "<!doctype html"sv, kHtml, ""sv},
      {0, "<html"sv, kHtml, ""sv},
  };
  const auto reason = [](std::string_view name, std::string_view convert_to) {
    return convert_to.empty()
               ? fmt::format("not an image: {}", name)
               : fmt::format("{} is not supported; convert it to {}", name, convert_to);
  };
  for (const auto& other : kOthers) {
    if (codec::is_at(bytes, other.offset, other.magic)) return reason(other.name, other.convert_to);
  }
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<std::size_t>(bytes.size(), 4096));
  if (head.starts_with("<?xml") && head.find("<svg") != std::string_view::npos) {
    return reason("SVG", "PNG");
  }
  return std::nullopt;
}

/// Memory of its own.
struct Mapping {
  void* memory = nullptr;
  std::size_t bytes = 0;

  static Mapping of(std::size_t bytes) {
    void* const memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
    if (memory == MAP_FAILED) {
      throw std::runtime_error(fmt::format("can't allocate memory: {} bytes for a picture", bytes));
    }
    ::madvise(memory, bytes, MADV_HUGEPAGE);
    return {memory, bytes};
  }
  void remove() const {
    if (memory != nullptr) ::munmap(memory, bytes);
  }
};

/// Mappings of large pictures. An allocator would split their memory, so that the next picture
/// needs new memory. The last one that was freed is kept: page faults take longer than decoding.
class LargePictures {
public:
  static LargePictures& instance() {
    static LargePictures pictures;
    return pictures;
  }

  Mapping take(std::size_t bytes) {
    const Mapping kept = exchange_kept({});
    if (bytes <= kept.bytes && kept.bytes <= 2 * bytes) return kept;
    kept.remove();
    return Mapping::of(bytes);
  }

  void give_back(const Mapping& mapping) { exchange_kept(mapping).remove(); }

private:
  Mapping exchange_kept(const Mapping& mapping) {
    const std::lock_guard lock(mutex_);
    count_as_free(static_cast<std::int64_t>(mapping.bytes));
    return std::exchange(kept_, mapping);
  }

  std::mutex mutex_;
  Mapping kept_;
};

/// Not filled.
torch::Tensor empty_picture(at::IntArrayRef shape, at::ScalarType type) {
  constexpr std::size_t kLarge = 32 << 20;
  const std::size_t bytes =
      static_cast<std::size_t>(c10::multiply_integers(shape)) * c10::elementSize(type);
  if (bytes < kLarge) return at::empty(shape, type);
  const Mapping mapping = LargePictures::instance().take(bytes);
  const auto free = [mapping](void* /*memory*/) { LargePictures::instance().give_back(mapping); };
  return at::from_blob(mapping.memory, shape, free, type);
}

/// Whole numbers of a file → their places in `range`, in 16 bits.
template <typename From>
torch::Tensor placed(codec::Decoded& decoded, const ValueRange& range) {
  using To = std::uint16_t;
  const torch::Tensor& pixels = decoded.pixels;
  std::vector<To> places(std::size_t{std::numeric_limits<From>::max()} + 1);
  for (std::size_t v = 0; v < places.size(); ++v) {
    double place = (static_cast<double>(v) - range.low) / (range.high - range.low);
    if (decoded.info.white_is_zero) place = 1 - place;
    places[v] =
        static_cast<To>(std::lround(std::clamp(place, 0.0, 1.0) * std::numeric_limits<To>::max()));
  }
  const torch::Tensor to = empty_picture(pixels.sizes(), at::kUInt16);
  const auto* from = static_cast<const From*>(pixels.const_data_ptr());
  std::transform(from, from + pixels.numel(), static_cast<To*>(to.data_ptr()), [&](From value) {
    decoded.clipped += value < range.low || value > range.high ? 1 : 0;
    return places[value];
  });
  return to;
}

torch::Tensor resize_once(const torch::Tensor& pixels, std::int64_t height, std::int64_t width,
                          int interpolation) {
  auto resized = at::empty({height, width, pixels.size(2)}, pixels.options());
  cv::Mat to = mat_view(resized);
  cv::resize(mat_view(pixels), to, to.size(), /*fx=*/0, /*fy=*/0, interpolation);
  TORCH_INTERNAL_ASSERT(to.data == resized.data_ptr());
  return resized;
}

}  // namespace

namespace codec {

torch::Tensor in_range(Decoded& decoded, const ValueRange& range) {
  if (!range.is_fixed() || decoded.pixels.is_floating_point()) return decoded.pixels;
  if (decoded.pixels.scalar_type() == at::kUInt16) return placed<std::uint16_t>(decoded, range);
  return placed<std::uint8_t>(decoded, range);
}

const Codec& codec_for(Bytes bytes) {
  if (bytes.empty()) throw ImageError("empty file (0 bytes)");
  if (const auto format = format_of(bytes)) return codec_of_format(*format);
  if (const auto reason = reason_to_refuse(bytes)) throw ImageError(*reason);
  const Bytes first = bytes.first(std::min<std::size_t>(bytes.size(), 8));
  throw ImageError(fmt::format("not an image: starts with bytes {:02x}", fmt::join(first, " ")));
}

torch::Tensor oriented(const torch::Tensor& pixels, int orientation) {
  if (orientation == 1) return pixels;
  const bool sideways = turns_sideways(orientation);
  const auto turned = sideways ? empty_picture({pixels.size(1), pixels.size(0), pixels.size(2)},
                                               pixels.scalar_type())
                               : empty_picture(pixels.sizes(), pixels.scalar_type());
  cv::Mat from = mat_view(pixels);
  cv::Mat to = mat_view(turned);
  if (sideways) {
    cv::transpose(from, to);
    from = to;
  }
  // OpenCV's codes: 1 left and right, -1 both, 0 top and bottom.
  constexpr int kFlips[] = {1, -1, 0};
  if (orientation != 5) cv::flip(from, to, kFlips[(orientation - 2) % 4]);
  // OpenCV writes into the memory it was given only while size and type fit.
  TORCH_INTERNAL_ASSERT(to.data == turned.data_ptr());
  return turned;
}

void check_image(const torch::Tensor& image, const char* where, bool takes_floats) {
  const bool shape_fits = image.dim() == 3 && (image.size(0) == 1 || image.size(0) == 3) &&
                          image.size(1) > 0 && image.size(2) > 0;
  const at::ScalarType type = image.scalar_type();
  const bool type_fits =
      type == at::kByte || type == at::kUInt16 || (takes_floats && type == at::kFloat);
  if (shape_fits && type_fits) return;
  throw std::invalid_argument(
      fmt::format("{}: expected (1 or 3, H, W) {}, but got ({}) {}", where,
                  takes_floats ? "uint8, uint16 or float32" : "uint8 or uint16",
                  fmt::join(image.sizes(), ", "), at::toString(type)));
}

torch::Tensor to_rows(const torch::Tensor& image) {
  return image.permute({1, 2, 0}).cpu().contiguous();
}

void check_size(std::int64_t height, std::int64_t width, std::int64_t max_pixels) {
  const auto sides = fmt::format("{} x {}", width, height);
  if (height <= 0 || width <= 0) throw ImageError("no pixels: the header says " + sides);
  if (height > max_pixels / width) {
    throw ImageError(
        fmt::format("too large: {} (width x height) is more than the limit of {} pixels; "
                    "--max-pixels allows more",
                    sides, max_pixels));
  }
  if (height > kMostPixelsASide || width > kMostPixelsASide) {
    throw ImageError("too large: " + sides + " (width x height) has a side above 2^31");
  }
}

void check_side(const torch::Tensor& pixels, std::int64_t max_side, std::string_view format) {
  if (std::max(pixels.size(0), pixels.size(1)) <= max_side) return;
  throw ImageError(
      fmt::format("{} holds at most {} pixels a side, but the image is {} x {}; write PNG or TIFF",
                  format, max_side, pixels.size(1), pixels.size(0)));
}

torch::Tensor empty_pixels(const ImageInfo& info, int channels) {
  return empty_pixels(info, {info.height, info.width}, channels);
}

torch::Tensor empty_pixels(const ImageInfo& info, Size size, int channels) {
  return empty_picture({size.h, size.w, channels}, numbers_type(info));
}

torch::Tensor to_8_bits(const torch::Tensor& pixels) {
  if (pixels.scalar_type() == at::kByte) return pixels;
  if (pixels.is_floating_point()) return pixels.mul(255).round().clamp(0, 255).to(at::kByte);
  auto narrow = at::empty(pixels.sizes(), at::kByte);
  const auto* from = static_cast<const std::uint16_t*>(pixels.const_data_ptr());
  std::transform(
      from, from + pixels.numel(), narrow.data_ptr<std::uint8_t>(),
      [](std::uint16_t value) { return static_cast<std::uint8_t>((value + 128u) / 257u); });
  return narrow;
}

}  // namespace codec

at::ScalarType numbers_type(const ImageInfo& info) {
  return info.bits == 32 ? at::kFloat : info.bits == 16 ? at::kUInt16 : at::kByte;
}

bool is_image_start(std::span<const std::uint8_t> bytes) { return format_of(bytes).has_value(); }

bool turns_sideways(int orientation) { return orientation >= 5; }

torch::Tensor turned(const torch::Tensor& image, int orientation) {
  return codec::oriented(codec::to_rows(image), orientation).permute({2, 0, 1});
}

ImageInfo probe_image(std::span<const std::uint8_t> bytes, std::int64_t max_pixels) {
  auto info = codec::codec_for(bytes).probe(bytes, max_pixels);
  if (turns_sideways(info.orientation)) std::swap(info.height, info.width);
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
                           std::int64_t max_pixels, int reduction, const ValueRange& range,
                           std::int64_t* clipped) {
  if (channels != 1 && channels != 3) {
    throw std::invalid_argument(
        fmt::format("decode_image: expected 1 or 3 channels, but got {}", channels));
  }
  if (reduction != 1 && reduction != 2 && reduction != 4 && reduction != 8) {
    throw std::invalid_argument(
        fmt::format("decode_image: expected a reduction of 1, 2, 4 or 8, but got {}", reduction));
  }
  const Codec& codec = codec::codec_for(bytes);
  if (reduction != 1 && &codec != &codec::kJpeg) {
    throw ImageError("it is no JPEG, which alone can be read at a part of its size");
  }
  auto decoded = reduction == 1
                     ? codec.decode(bytes, channels, max_pixels, range)
                     : codec::decode_jpeg_reduced(bytes, channels, max_pixels, reduction);
  const torch::Tensor pixels = codec::in_range(decoded, range);
  if (clipped != nullptr) *clipped += decoded.clipped;
  return codec::oriented(pixels, decoded.info.orientation).permute({2, 0, 1});
}

std::vector<std::uint8_t> encode_image(const torch::Tensor& image, ImageFormat format) {
  codec::check_image(image, "encode_image");
  const Codec& codec = codec_of_format(format);
  const auto pixels = codec::to_rows(image);
  return codec.encode(codec.holds_16_bits ? pixels : codec::to_8_bits(pixels), nullptr);
}

std::vector<std::uint8_t> encode_small_jpeg(const torch::Tensor& image, int quality) {
  codec::check_image(image, "encode_small_jpeg");
  return codec::encode_jpeg_at(codec::to_8_bits(codec::to_rows(image)), quality);
}

torch::Tensor resize_image(const torch::Tensor& image, std::int64_t height, std::int64_t width) {
  codec::check_image(image, "resize_image", /*takes_floats=*/true);
  if (height <= 0 || width <= 0 || height > kMostPixelsASide || width > kMostPixelsASide) {
    throw std::invalid_argument(
        fmt::format("resize_image: expected positive sides, but got {} x {}", height, width));
  }
  auto pixels = codec::to_rows(image);
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
