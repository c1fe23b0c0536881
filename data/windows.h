#pragma once

#include "convae/core/mapped_file.h"
#include "convae/core/region.h"
#include "convae/core/tensor.h"
#include "convae/data/image_files.h"
#include "convae/data/image_io.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace convae {

namespace codec {
class PartReader;
}

/// A picture file that is decoded part by part: TIFF in tiles or strips, PNG and JPEG row by row.
/// Interlaced PNG, JPEG in several scans, pictures that EXIF turns and all other formats are
/// decoded as a whole, once.
///
///     ImageWindows picture(slide, /*channels=*/3, kDefaultMaxPixels);
///     torch::Tensor corner = picture.read({{0, 256}, {0, 256}});
class ImageWindows {
public:
  /// Throws what MappedFile throws, and ImageError as decode_image() does: for a picture that is
  /// decoded as a whole, all of it, and `max_pixels` counts for such a one alone.
  ImageWindows(const ImageFile& image, int channels, std::int64_t max_pixels,
               const ValueRange& range = {});
  ~ImageWindows();

  Size size() const { return {info_.height, info_.width}; }  ///< after EXIF orientation

  /// What decode_image() has there: (C, h, w), of any strides. Where rows are decoded, those of the
  /// last window are kept: windows side by side, and below each other, cost one pass over the file;
  /// a window above them starts it anew. Throws ImageError.
  torch::Tensor read(const Region& window);

  /// How many values that were read lay outside the value range; those of windows that overlap may
  /// count several times.
  std::int64_t clipped() const { return clipped_; }
  /// How many were decoded for that.
  std::int64_t decoded() const { return decoded_; }

private:
  torch::Tensor read_part(const Region& part);

  MappedFile file_;
  ValueRange range_;
  ImageInfo info_;
  std::unique_ptr<codec::PartReader> parts_;
  torch::Tensor whole_;  // (H, W, C), where there are no parts
  Span kept_;            // rows …
  torch::Tensor band_;   // … and what they hold: (rows, W, C)
  std::int64_t clipped_ = 0;
  std::int64_t decoded_ = 0;
};

/// Why a picture of more than `max_pixels` cannot be decoded; nullopt where it has fewer.
std::optional<std::string> why_too_large(Size size, std::int64_t max_pixels);

/// Whether ImageWindows reads parts of that file; false where it cannot be read at all.
bool reads_in_parts(const ImageFile& image);

}  // namespace convae
