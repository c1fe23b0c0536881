#include "convae/data/windows.h"

#include "convae/data/codecs/codecs.h"
#include "convae/data/folder.h"

#include <ATen/ops/cat.h>

#include <exception>

namespace convae {
namespace {

/// Null where the picture must be decoded as a whole.
std::unique_ptr<codec::PartReader> parts_of(codec::Bytes bytes, int channels,
                                            const ValueRange& range) {
  const codec::Codec& codec = codec::codec_for(bytes);
  if (codec.open == nullptr) return nullptr;
  auto parts = codec.open(bytes, channels, range);
  return parts && parts->info.orientation == 1 ? std::move(parts) : nullptr;
}

}  // namespace

ImageWindows::ImageWindows(const ImageFile& image, int channels, std::int64_t max_pixels,
                           const ValueRange& range)
    : file_(open_image(image)), range_(range), parts_(parts_of(file_.bytes(), channels, range)) {
  if (parts_) {
    info_ = parts_->info;
  } else {
    info_ = probe_image(file_.bytes(), max_pixels);
    whole_ = decode_image(file_.bytes(), channels, max_pixels, /*reduction=*/1, range, &clipped_)
                 .permute({1, 2, 0});
    decoded_ = whole_.numel();
  }
  file_.let_go();
}

ImageWindows::~ImageWindows() = default;

torch::Tensor ImageWindows::read_part(const Region& part) {
  codec::Decoded decoded = parts_->read(part);
  file_.let_go();
  const torch::Tensor pixels = codec::in_range(decoded, range_);
  clipped_ += decoded.clipped;
  decoded_ += pixels.numel();
  return pixels;
}

torch::Tensor ImageWindows::read(const Region& window) {
  const auto columns = [&](const torch::Tensor& rows) {
    return rows.narrow(1, window.columns.begin, window.columns.length()).permute({2, 0, 1});
  };
  if (!parts_) return columns(whole_.narrow(0, window.rows.begin, window.rows.length()));
  if (!parts_->in_rows) return read_part(window).permute({2, 0, 1});
  if (!kept_.contains(window.rows)) {
    const Span all{0, info_.width};
    const bool goes_on = kept_.begin <= window.rows.begin && window.rows.begin < kept_.end;
    if (goes_on) {
      const torch::Tensor seen =
          band_.narrow(0, window.rows.begin - kept_.begin, kept_.end - window.rows.begin).clone();
      band_ = torch::Tensor();
      band_ = at::cat({seen, read_part({{kept_.end, window.rows.end}, all})});
    } else {
      band_ = torch::Tensor();
      band_ = read_part({window.rows, all});
    }
    kept_ = window.rows;
  }
  return columns(band_.narrow(0, window.rows.begin - kept_.begin, window.rows.length()));
}

std::optional<std::string> why_too_large(Size size, std::int64_t max_pixels) try {
  codec::check_size(size.h, size.w, max_pixels);
  return std::nullopt;
} catch (const ImageError& error) {
  return error.what();
}

bool reads_in_parts(const ImageFile& image) try {
  const MappedFile file(open_image(image));
  return parts_of(file.bytes(), /*channels=*/3, {}) != nullptr;
} catch (const std::exception&) {
  return false;
}

}  // namespace convae
