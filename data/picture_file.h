#pragma once

#include "convae/core/tensor.h"
#include "convae/data/folder.h"
#include "convae/data/image_io.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace convae {

/// What a picture's file is to hold.
struct PictureShape {
  Size size;
  std::int64_t channels = 3;        ///< 1 or 3
  at::ScalarType type = at::kByte;  ///< or kUInt16 or, for TIFF, kFloat
  ImageFile like = {};              ///< one of the same format: a TIFF's resolution, place, colour
                                    ///< profile and other tags are taken over; without a path: none
};

/// A picture's file that is written from the top down, a few rows at a time, and appears complete
/// or not at all: PNG, or TIFF in tiles of 256×256 (BigTIFF above 4 GB). Throws
/// std::runtime_error with the file and the reason.
class PictureFile {
public:
  virtual ~PictureFile() = default;
  /// The next rows, (C, h, W) of the shape's type; any strides.
  virtual void write(const torch::Tensor& rows) = 0;
  /// After the last row.
  virtual void commit() = 0;
};

namespace codec {
std::unique_ptr<PictureFile> new_png_file(const std::filesystem::path& path,
                                          const PictureShape& shape,
                                          std::vector<std::string>* lost);
std::unique_ptr<PictureFile> new_tiff_file(const std::filesystem::path& path,
                                           const PictureShape& shape,
                                           std::vector<std::string>* lost);
}  // namespace codec

/// Whether there is a PictureFile of that format.
bool is_written_in_rows(ImageFormat format);

/// A picture's file that is written from tiles, which come row by row: those of one row make a
/// band.
class BandFile {
public:
  /// `lost` gets what shape.like has and cannot be taken over, in words. Throws
  /// std::invalid_argument where the format is not written in rows.
  BandFile(const std::filesystem::path& path, ImageFormat format, const PictureShape& shape,
           std::vector<std::string>* lost = nullptr);

  /// A part of the band, (C, h, w), `left` pixels from its left end; all have one height. What none
  /// covers is white; a grey part of a picture in colours has its values in all of them.
  void put(std::int64_t left, const torch::Tensor& pixels);
  void end_band();
  void commit() { file_->commit(); }

private:
  std::unique_ptr<PictureFile> file_;
  PictureShape shape_;
  torch::Tensor band_;  // (C, h, W)
};

/// (C, H, W) float in [0,1] → that type, in the numbers of `original`, and grey where that is grey;
/// `range` is undone.
torch::Tensor in_file_numbers(const torch::Tensor& image, const ImageInfo& original,
                              const ValueRange& range);

}  // namespace convae
