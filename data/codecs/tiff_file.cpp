#include "convae/core/mapped_file.h"
#include "convae/data/codecs/tiff_parts.h"
#include "convae/data/picture_file.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace convae::codec {
namespace {

constexpr std::int64_t kTileSide = 256;

class TiffFile final : public PictureFile {
public:
  TiffFile(const std::filesystem::path& path, const PictureShape& shape,
           std::vector<std::string>* lost)
      : path_(path), output_(path), shape_(shape) {
    memory_.target = &output_;
    const Size size = shape.size;
    const bool is_float = shape.type == at::kFloat;
    const int photometric = shape.channels < 3 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB;
    const int format = is_float ? SAMPLEFORMAT_IEEEFP : SAMPLEFORMAT_UINT;
    tiff_ = new_tiff(
        memory_,
        {size.h, size.w, shape.channels, 8 * static_cast<int>(c10::elementSize(shape.type)),
         static_cast<std::uint16_t>(photometric), static_cast<std::uint16_t>(format)});
    expect(tiff_ != nullptr);
    auto* handle = tiff_.get();
    if (!shape.like.path.empty()) {
      std::vector<std::string> ignored;
      const MappedFile like(open_image(shape.like));
      take_tags_in_tiles(like.bytes(), handle, shape.channels, lost != nullptr ? *lost : ignored);
    }
    TIFFSetField(handle, TIFFTAG_TILEWIDTH, static_cast<std::uint32_t>(kTileSide));
    TIFFSetField(handle, TIFFTAG_TILELENGTH, static_cast<std::uint32_t>(kTileSide));
    band_ = at::empty({kTileSide, size.w, shape.channels}, shape.type);
  }

  void write(const torch::Tensor& rows) override {
    const torch::Tensor pixels = to_rows(rows);
    for (std::int64_t done = 0; done < pixels.size(0);) {
      const std::int64_t count = std::min(kTileSide - filled_, pixels.size(0) - done);
      band_.narrow(0, filled_, count).copy_(pixels.narrow(0, done, count));
      filled_ += count;
      done += count;
      if (filled_ == kTileSide || top_ + filled_ == shape_.size.h) write_band();
    }
  }

  void commit() override {
    expect(TIFFFlush(tiff_.get()) == 1);
    tiff_.reset();
    expect(true);
    output_.commit();
  }

private:
  void write_band() {
    torch::Tensor tile = at::empty({kTileSide, kTileSide, shape_.channels}, shape_.type);
    for (std::int64_t left = 0; left < shape_.size.w; left += kTileSide) {
      const std::int64_t columns = std::min(kTileSide, shape_.size.w - left);
      tile.zero_()
          .narrow(0, 0, filled_)
          .narrow(1, 0, columns)
          .copy_(band_.narrow(0, 0, filled_).narrow(1, left, columns));
      const auto index = TIFFComputeTile(tiff_.get(), static_cast<std::uint32_t>(left),
                                         static_cast<std::uint32_t>(top_), /*z=*/0, /*s=*/0);
      const auto bytes = static_cast<tmsize_t>(tile.nbytes());
      expect(TIFFWriteEncodedTile(tiff_.get(), index, tile.data_ptr(), bytes) == bytes);
    }
    top_ += filled_;
    filled_ = 0;
  }

  void expect(bool done) {
    if (memory_.failure) std::rethrow_exception(std::exchange(memory_.failure, nullptr));
    if (done) return;
    throw std::runtime_error("cannot write " + printable(path_.native()) + ": " + memory_.error);
  }

  std::filesystem::path path_;
  AtomicFile output_;
  TiffMemory memory_;
  Tiff tiff_;  // after what it points to
  PictureShape shape_;
  torch::Tensor band_;                 // rows of one row of tiles, (kTileSide, W, C) …
  std::int64_t filled_ = 0, top_ = 0;  // … how many there are, and where they begin
};

}  // namespace

std::unique_ptr<PictureFile> new_tiff_file(const std::filesystem::path& path,
                                           const PictureShape& shape,
                                           std::vector<std::string>* lost) {
  return std::make_unique<TiffFile>(path, shape, lost);
}

}  // namespace convae::codec
