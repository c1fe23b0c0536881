#include "convae/data/picture_file.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <stdexcept>

namespace convae {

bool is_written_in_rows(ImageFormat format) {
  return format == ImageFormat::png || format == ImageFormat::tiff;
}

BandFile::BandFile(const std::filesystem::path& path, ImageFormat format, const PictureShape& shape,
                   std::vector<std::string>* lost)
    : shape_(shape) {
  switch (format) {
    case ImageFormat::png: file_ = codec::new_png_file(path, shape, lost); break;
    case ImageFormat::tiff: file_ = codec::new_tiff_file(path, shape, lost); break;
    default: throw std::invalid_argument("BandFile: expected PNG or TIFF");
  }
}

void BandFile::put(std::int64_t left, const torch::Tensor& pixels) {
  if (!band_.defined()) {
    band_ =
        at::empty({pixels.size(1), shape_.size.w, shape_.channels}, shape_.type).permute({2, 0, 1});
    constexpr int kWhite = 255;  // only pictures of 8 bits have gaps
    if (shape_.type == at::kByte) band_.fill_(kWhite);
  }
  band_.narrow(2, left, pixels.size(2)).copy_(pixels);
}

void BandFile::end_band() {
  file_->write(band_);
  band_ = torch::Tensor();
}

}  // namespace convae
