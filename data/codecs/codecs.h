#pragma once

// What image_io.cpp shares with the files that each speak to one image library.
// Private to data/: the rest of the program sees image_io.h only.

#include "convae/data/image_io.h"

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace convae::codec {

using Bytes = std::span<const std::uint8_t>;

/// An image as its file stores it: not yet turned as `info.orientation` says, so that
/// info.height and info.width are the sides of `pixels`.
struct Decoded {
  ImageInfo info;
  torch::Tensor pixels;  ///< (H, W, C) contiguous, uint8 or uint16
};

// For each format: probe reads the header (sides as stored), decode reads everything and calls
// the same header code, so that the two cannot disagree. encode takes (H, W, C) contiguous.
// All throw ImageError.

ImageInfo probe_jpeg(Bytes bytes, std::int64_t max_pixels);
Decoded decode_jpeg(Bytes bytes, int channels, std::int64_t max_pixels);
/// At ceil(side / reduction), for a reduction of 1, 2, 4 or 8.
Decoded decode_jpeg_reduced(Bytes bytes, int channels, std::int64_t max_pixels, int reduction);
std::vector<std::uint8_t> encode_jpeg(const torch::Tensor& pixels);
/// At a quality from 1 to 100, colour at half the resolution (4:2:0).
std::vector<std::uint8_t> encode_jpeg_at(const torch::Tensor& pixels, int quality);

ImageInfo probe_png(Bytes bytes, std::int64_t max_pixels);
Decoded decode_png(Bytes bytes, int channels, std::int64_t max_pixels);
std::vector<std::uint8_t> encode_png(const torch::Tensor& pixels);

ImageInfo probe_tiff(Bytes bytes, std::int64_t max_pixels);
Decoded decode_tiff(Bytes bytes, int channels, std::int64_t max_pixels);
std::vector<std::uint8_t> encode_tiff(const torch::Tensor& pixels);

ImageInfo probe_webp(Bytes bytes, std::int64_t max_pixels);
Decoded decode_webp(Bytes bytes, int channels, std::int64_t max_pixels);
std::vector<std::uint8_t> encode_webp(const torch::Tensor& pixels);

ImageInfo probe_bmp(Bytes bytes, std::int64_t max_pixels);
Decoded decode_bmp(Bytes bytes, int channels, std::int64_t max_pixels);
std::vector<std::uint8_t> encode_bmp(const torch::Tensor& pixels);

/// Throws ImageError unless both sides are at least 1 and their product at most `max_pixels`.
/// To be called before anything is allocated for the pixels.
void check_size(std::int64_t height, std::int64_t width, std::int64_t max_pixels);

/// Throws ImageError unless both sides are at most `max_side`, the most that `format` can hold.
void check_side(const torch::Tensor& pixels, std::int64_t max_side, std::string_view format);

/// (H, W, C) for the pixels of `info`, uninitialised.
torch::Tensor empty_pixels(const ImageInfo& info, int channels);

/// (H, W, C) uint8 of the same values; 65535 becomes 255.
torch::Tensor to_8_bits(const torch::Tensor& pixels);

/// The orientation, 1 to 8, that a block of EXIF data holds; 1 where it holds none.
/// `exif` may begin with "Exif\0\0" (JPEG) or with the TIFF header (PNG, WebP).
int exif_orientation(Bytes exif);

}  // namespace convae::codec
