// By hand: a few lines, where netpbm's own library would be a dependency.
// Layout: the manual pages pbm(5), pgm(5) and ppm(5) of netpbm.

#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/pixel_rows.h"

#include <fmt/format.h>

#include <cctype>

namespace convae::codec {
namespace {

constexpr std::int64_t kMostValue = 65535;

/// P1 and P4: bits, 1 is black; P2 and P5: grey; P3 and P6: RGB. Numbers are text up to P3.
class PnmReader : public FileReader {
public:
  PnmReader(Bytes bytes, std::int64_t max_pixels) : bytes_(bytes), kind_(bytes[1] - '0') {
    info.format = ImageFormat::pnm;
    info.width = number();
    info.height = number();
    if (!is_bits()) most_ = number();
    check_size(info.height, info.width, max_pixels);
    if (most_ < 1 || most_ > kMostValue) {
      throw ImageError(fmt::format("damaged PNM: the largest value is {}", most_));
    }
    info.channels = kind_ == 3 || kind_ == 6 ? 3 : 1;
    info.bits = most_ > 255 ? 16 : 8;
    ++at_;  // the one blank before the pixels
    const std::int64_t row =
        kind_ == 4 ? (info.width + 7) / 8 : info.width * info.channels * (info.bits / 8);
    const std::size_t end = at_ + static_cast<std::size_t>(row) * info.height;
    if (!is_text() && bytes.size() > end + 1) {
      info.remark = "what follows its first picture is not read";
    }
  }

  void note_losses(std::vector<std::string>& lost) const {
    if (is_bits()) lost.emplace_back("single bits (now 8)");
    if (is_text()) lost.emplace_back("numbers as text (now binary)");
    if (!is_bits() && most_ != 255 && most_ != kMostValue) {
      lost.push_back(
          fmt::format("its largest value {} (now {})", most_, most_ > 255 ? 65535 : 255));
    }
  }

  torch::Tensor decode(int channels) {
    const torch::Tensor pixels = empty_pixels(info, channels);
    with_samples(pixels, [&](auto* to) { read_rows(to, channels); });
    return pixels;
  }

private:
  bool is_bits() const { return kind_ == 1 || kind_ == 4; }
  bool is_text() const { return kind_ <= 3; }

  /// The next number in text, after blanks and comments.
  std::int64_t number() {
    const auto is_blank = [&] { return std::isspace(bytes_[at_]) != 0; };
    while (at_ < bytes_.size() && (is_blank() || bytes_[at_] == '#')) {
      if (bytes_[at_] == '#') {
        while (at_ < bytes_.size() && bytes_[at_] != '\n') ++at_;
      } else {
        ++at_;
      }
    }
    std::int64_t value = -1;
    for (; at_ < bytes_.size() && std::isdigit(bytes_[at_]) != 0; ++at_) {
      value = std::max<std::int64_t>(value, 0) * 10 + (bytes_[at_] - '0');
      if (value > (std::int64_t{1} << 40)) break;
      if (kind_ == 1 && in_pixels_) {  // bits need no blanks between them
        ++at_;
        break;
      }
    }
    if (value < 0 && in_pixels_) end_early();
    if (value < 0) throw ImageError("damaged PNM: its header does not say its size");
    return value;
  }

  [[noreturn]] void end_early() const {
    throw ImageError(
        fmt::format("truncated PNM: the data ends after {} of {} rows", row_, info.height));
  }

  template <typename Sample>
  void read_rows(Sample* to, int channels) {
    in_pixels_ = true;
    std::vector<Sample> row(static_cast<std::size_t>(info.width * info.channels));
    for (row_ = 0; row_ < info.height; ++row_) {
      kind_ == 4 ? read_bits(row.data()) : read_samples(row);
      convert_pixels(row.data(), Layout{info.channels}, info.width,
                     to + row_ * info.width * channels, channels);
    }
  }

  template <typename Sample>
  void read_samples(std::vector<Sample>& row) {
    const int width = info.bits / 8;
    constexpr std::int64_t kFull = std::numeric_limits<Sample>::max();
    if (!is_text() && at_ + row.size() * width > bytes_.size()) end_early();
    for (Sample& sample : row) {
      std::int64_t value = 0;
      if (is_text()) {
        value = number();
      } else {
        value = static_cast<std::int64_t>(number_at(bytes_, at_, width, std::endian::big));
        at_ += width;
      }
      if (value > most_) {
        throw ImageError(fmt::format("damaged PNM: a value of {} above {}", value, most_));
      }
      // Otherwise they stay the file's own numbers.
      const bool spreads = is_bits() || range.kind == ValueRange::Kind::full;
      sample = static_cast<Sample>(spreads ? (value * kFull + most_ / 2) / most_ : value);
      if (is_bits()) sample = static_cast<Sample>(kFull - sample);
    }
  }

  template <typename Sample>
  void read_bits(Sample* row) {
    const auto bytes = static_cast<std::size_t>((info.width + 7) / 8);
    if (at_ + bytes > bytes_.size()) end_early();
    for (std::int64_t x = 0; x < info.width; ++x) {
      row[x] = (bytes_[at_ + x / 8] >> (7 - x % 8)) & 1 ? 0 : std::numeric_limits<Sample>::max();
    }
    at_ += bytes;
  }

  Bytes bytes_;
  int kind_;
  std::size_t at_ = 2;
  std::int64_t most_ = 1;
  std::int64_t row_ = 0;
  bool in_pixels_ = false;
};

std::vector<std::uint8_t> encode_pnm(const torch::Tensor& pixels, const Original* original) {
  if (original) PnmReader(original->bytes, kAnyArea).note_losses(original->lost);
  const bool is_wide = pixels.scalar_type() == at::kUInt16;
  const std::string header = fmt::format("P{}\n{} {}\n{}\n", pixels.size(2) == 3 ? 6 : 5,
                                         pixels.size(1), pixels.size(0), is_wide ? 65535 : 255);
  std::vector<std::uint8_t> bytes(header.begin(), header.end());
  const auto* from = static_cast<const std::uint8_t*>(pixels.const_data_ptr());
  bytes.insert(bytes.end(), from, from + pixels.nbytes());
  for (std::size_t i = header.size(); is_wide && i < bytes.size(); i += 2) {
    std::swap(bytes[i], bytes[i + 1]);  // the higher byte comes first
  }
  return bytes;
}

}  // namespace

bool is_pnm(Bytes bytes) {
  return bytes.size() > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
         (std::isspace(bytes[2]) != 0 || bytes[2] == '#');
}

const Codec kPnm = codec_of<PnmReader>(encode_pnm, /*holds_16_bits=*/true);

}  // namespace convae::codec
