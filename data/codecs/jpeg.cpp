#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/pixel_rows.h"

// clang-format off: jpeglib.h uses FILE without including it, and the numbers in jerror.h are
// right only after jpeglib.h.
#include <fmt/format.h>
#include <jerror.h>
#include <jpeglib.h>

#include <cstdio>
// clang-format on

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

namespace convae::codec {
namespace {

// A progressive file may repeat scans without end, each of a few bytes and each walking over all
// coefficients. Real encoders write 3 to 20 scans. 500 is what a small picture may take; the
// second limit holds larger ones to about 1.5 s (refining a block takes up to 40 ns).
constexpr std::int64_t kMaxScans = 500;
constexpr std::int64_t kMinMaxScans = 30;
constexpr std::int64_t kMaxScannedPixels = 2'500'000'000;

constexpr int kExifMarker = JPEG_APP0 + 1, kProfileMarker = JPEG_APP0 + 2;
constexpr int kIptcMarker = JPEG_APP0 + 13;

constexpr int kNearlyLossless = 95;  // of libjpeg's quality

/// libjpeg's error manager, which must come first so that `jpeg->err` points to all of it.
struct ErrorManager {
  jpeg_error_mgr base{};
  std::jmp_buf jump{};
  bool ended_early = false;  // a marker or the end came where picture data were to be
  bool is_lenient = false;   // warnings harm nothing that is read
  bool at_end = false;       // libjpeg has read ahead to the end, which need not mean any harm
  char message[JMSG_LENGTH_MAX]{};
};

[[noreturn]] void on_error(j_common_ptr jpeg) {
  auto* errors = reinterpret_cast<ErrorManager*>(jpeg->err);
  jpeg->err->format_message(jpeg, errors->message);
  std::longjmp(errors->jump, 1);
}

/// libjpeg answers damaged data with a warning and grey pixels. The warnings named here harm no
/// pixel; all others are errors.
void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;  // a trace, not a warning
  if (reinterpret_cast<ErrorManager*>(jpeg->err)->is_lenient) return;
  switch (jpeg->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_EXTRANEOUS_DATA:  // between markers; cameras pad with zeros
    case JWRN_JFIF_MAJOR:
    case JWRN_NOT_SEQUENTIAL:
    case JWRN_TOO_MUCH_DATA: return;
    case JWRN_JPEG_EOF: reinterpret_cast<ErrorManager*>(jpeg->err)->at_end = true; return;
    case JWRN_HIT_MARKER: reinterpret_cast<ErrorManager*>(jpeg->err)->ended_early = true; break;
    default: break;
  }
  on_error(jpeg);
}

void on_output(j_common_ptr) {}  // libjpeg's own writes to stderr

void install(ErrorManager& errors) {
  jpeg_std_error(&errors.base);
  errors.base.error_exit = on_error;
  errors.base.emit_message = on_message;
  errors.base.output_message = on_output;
}

/// Runs calls into libjpeg; false when one of them failed. longjmp leaves `calls` from the
/// middle, so it must own nothing that has a destructor.
template <typename Calls>
[[nodiscard]] bool succeeds(ErrorManager& errors, const Calls& calls) {
  if (setjmp(errors.jump) != 0) return false;
  calls();
  return true;
}

void limit_scans(j_common_ptr jpeg) {
  const auto* decoder = reinterpret_cast<j_decompress_ptr>(jpeg);
  const auto pixels = std::int64_t{decoder->image_width} * decoder->image_height;
  const auto limit = std::max(
      kMinMaxScans, std::min(kMaxScans, kMaxScannedPixels / std::max<std::int64_t>(pixels, 1)));
  if (decoder->input_scan_number > limit) {
    auto* errors = reinterpret_cast<ErrorManager*>(jpeg->err);
    std::snprintf(errors->message, sizeof errors->message, "more than %d scans",
                  static_cast<int>(limit));
    std::longjmp(errors->jump, 1);
  }
}

class JpegReader : public FileReader {
public:
  JpegReader(Bytes bytes, std::int64_t max_pixels) {
    install(errors_);
    decoder_.err = &errors_.base;
    run([&] {
      jpeg_create_decompress(&decoder_);
      decoder_.progress = &progress_;
      progress_.progress_monitor = limit_scans;
      jpeg_mem_src(&decoder_, bytes.data(), bytes.size());
      jpeg_save_markers(&decoder_, kExifMarker, 0xFFFF);
      jpeg_save_markers(&decoder_, kProfileMarker, 0xFFFF);
      jpeg_save_markers(&decoder_, JPEG_COM, 1);  // only that they are there
      jpeg_save_markers(&decoder_, kIptcMarker, 1);
      jpeg_read_header(&decoder_, /*require_image=*/TRUE);
    });
    check_size(decoder_.image_height, decoder_.image_width, max_pixels);
    info.format = ImageFormat::jpeg;
    info.height = decoder_.image_height;
    info.width = decoder_.image_width;
    info.channels = decoder_.num_components == 1 ? 1 : 3;
    info.orientation = exif_orientation(exif());
    check_supported();
  }

  Bytes exif() const {
    for (const auto* marker : markers()) {
      // XMP uses APP1 as well.
      if (marker->marker == kExifMarker && is_at(bytes_of(*marker), 0, {"Exif\0\0", 6})) {
        return bytes_of(*marker);
      }
    }
    return {};
  }

  /// What goes into another file between its header and its picture.
  void write_notes(jpeg_compress_struct& encoder, Bytes upright_exif) {
    if (decoder_.saw_JFIF_marker) {
      encoder.density_unit = decoder_.density_unit;
      encoder.X_density = decoder_.X_density;
      encoder.Y_density = decoder_.Y_density;
      if (turns_sideways(info.orientation)) std::swap(encoder.X_density, encoder.Y_density);
    }
    jpeg_start_compress(&encoder, /*write_all_tables=*/TRUE);
    if (!upright_exif.empty()) {
      jpeg_write_marker(&encoder, kExifMarker, upright_exif.data(),
                        static_cast<unsigned>(upright_exif.size()));
    }
    if (profile_) jpeg_write_icc_profile(&encoder, profile_.get(), profile_bytes_);
  }

  /// Before write_notes(), which must not throw or jump: it runs within another encoder's calls.
  void read_profile(const Original& original) {
    const bool is_there = std::ranges::any_of(markers(), [](const auto* marker) {
      return marker->marker == kProfileMarker && is_at(bytes_of(*marker), 0, "ICC_PROFILE");
    });
    if (!is_there) return;
    JOCTET* profile = nullptr;
    if (original.same_colours && decoder_.num_components < 4) {
      errors_.is_lenient = true;
      run([&] { jpeg_read_icc_profile(&decoder_, &profile, &profile_bytes_); });
    }
    profile_.reset(profile);
    if (!profile_) original.lost.emplace_back("its colour profile");
  }

  void note_losses(std::vector<std::string>& lost) const {
    if (decoder_.num_components == 4) lost.emplace_back("its inks (CMYK)");
    constexpr std::string_view kXmp = "http://ns.adobe.com/xap/";
    for (const auto* marker : markers()) {
      if (is_at(bytes_of(*marker), 0, kXmp)) lost.emplace_back("its XMP");
      if (marker->marker == JPEG_COM) lost.emplace_back("a comment");
      if (marker->marker == kIptcMarker) lost.emplace_back("its IPTC data");
    }
  }

  /// Decodes at 1/2, 1/4 or 1/8: the inverse transform gives fewer pixels, in less time.
  void reduce(int reduction) {
    decoder_.scale_num = 1;
    decoder_.scale_denom = static_cast<unsigned>(reduction);
    info.height = (info.height + reduction - 1) / reduction;
    info.width = (info.width + reduction - 1) / reduction;
  }

  torch::Tensor decode(int channels) {
    return decode_part(whole({info.height, info.width}), channels);
  }

  bool has_parts() { return !jpeg_has_multiple_scans(&decoder_); }
  static bool reads_rows() { return true; }
  std::int64_t next_row() const { return is_started_ ? decoder_.output_scanline : 0; }

  /// Rows after those that were decoded before.
  torch::Tensor decode_part(const Region& part, int channels) {
    if (!is_started_) start(channels);
    auto pixels = empty_pixels(info, {part.rows.length(), info.width}, channels);
    auto* to = pixels.data_ptr<std::uint8_t>();
    while (next_row() < part.rows.begin) read_rows(next_row() + 1, to, channels);
    read_rows(part.rows.end, to, channels);
    return pixels.narrow(1, part.columns.begin, part.columns.length()).contiguous();
  }

private:
  void start(int channels) {
    is_started_ = true;
    decoder_.out_color_space = decoder_.num_components == 4 ? JCS_CMYK
                               : channels == 1              ? JCS_GRAYSCALE
                                                            : JCS_RGB;
    read_scans();
    run([&] {
      if (decoder_.buffered_image) {
        jpeg_start_output(&decoder_, decoder_.input_scan_number);
      } else {
        jpeg_start_decompress(&decoder_);
      }
    });
  }

  /// All rows before `end`. What follows the last row, and whether an end marker does, is the
  /// maker's own business.
  void read_rows(std::int64_t end, std::uint8_t* to, int channels) {
    const auto stride = info.width * channels;
    const bool cmyk = decoder_.num_components == 4;
    std::vector<std::uint8_t> inks(cmyk ? 4 * info.width : 0), colours(cmyk ? 3 * info.width : 0);
    run([&] {
      for (; decoder_.output_scanline < end; to += stride) {
        JSAMPROW row = cmyk ? inks.data() : to;
        jpeg_read_scanlines(&decoder_, &row, /*max_lines=*/1);
        if (!cmyk) continue;
        cmyk_to_rgb(inks.data(), info.width, /*inverted=*/true, colours.data());
        convert_pixels(colours.data(), kRgbPixels, info.width, to, channels);
      }
    });
  }

  std::vector<const jpeg_marker_struct*> markers() const {
    std::vector<const jpeg_marker_struct*> markers;
    for (auto marker = decoder_.marker_list; marker; marker = marker->next) {
      markers.push_back(marker);
    }
    return markers;
  }

  static Bytes bytes_of(const jpeg_marker_struct& marker) {
    return {marker.data, marker.data_length};
  }

  template <typename Calls>
  void run(const Calls& calls) {
    if (!succeeds(errors_, calls)) throw ImageError(reason());
  }

  /// Reads all scans of a file that has several. Without an end marker, or with something unknown
  /// in its place, they have to be complete.
  void read_scans() {
    if (!jpeg_has_multiple_scans(&decoder_)) return;
    decoder_.buffered_image = TRUE;
    const bool ends_well = succeeds(errors_, [&] {
      jpeg_start_decompress(&decoder_);
      for (int got = 0; got != JPEG_REACHED_EOI; between_scans_ = got == JPEG_SCAN_COMPLETED) {
        got = jpeg_consume_input(&decoder_);
        limit_scans(reinterpret_cast<j_common_ptr>(&decoder_));
        if (got == JPEG_REACHED_EOI) return;
        if (got != JPEG_SCAN_COMPLETED) continue;
        for (int i = 0; i < decoder_.comps_in_scan; ++i) {
          scanned_ |= 1u << decoder_.cur_comp_info[i]->component_index;
        }
      }
    });
    if (ends_well && !errors_.at_end) return;
    if (!between_scans_ || !has_all_scans()) {
      errors_.ended_early = errors_.ended_early || errors_.at_end;
      throw ImageError(reason());
    }
  }

  bool has_all_scans() const {
    for (int c = 0; c < decoder_.num_components; ++c) {
      if ((scanned_ >> c & 1) == 0) return false;
      if (!decoder_.progressive_mode) continue;
      const int* missing_bits = decoder_.coef_bits[c];
      if (std::any_of(missing_bits, missing_bits + DCTSIZE2, [](int bits) { return bits != 0; })) {
        return false;
      }
    }
    return true;
  }

  std::string reason() const {
    if (!errors_.ended_early && !errors_.at_end) {
      constexpr std::string_view kCorrupt = "Corrupt JPEG data: ";
      const std::string message = errors_.message;
      return message.starts_with(kCorrupt) ? "corrupt JPEG data: " + message.substr(kCorrupt.size())
                                           : "damaged or unsupported JPEG: " + message;
    }
    if (decoder_.output_height == 0) return "truncated JPEG: the data ends within the header";
    if (decoder_.buffered_image) {
      return fmt::format("truncated JPEG: the data ends in scan {} of a progressive file",
                         decoder_.input_scan_number);
    }
    // Rows come out later than they are read, as colours are smoothed across them.
    const auto rows = decoder_.input_iMCU_row * decoder_.max_v_samp_factor * DCTSIZE;
    return fmt::format("truncated JPEG: the data ends after {} of {} rows",
                       std::min(rows, decoder_.image_height), decoder_.image_height);
  }

  void check_supported() const {
    if (decoder_.jpeg_color_space == JCS_UNKNOWN) {
      throw ImageError(fmt::format("unsupported JPEG: {} components of no known meaning",
                                   decoder_.num_components));
    }
    if (decoder_.arith_code) {
      // Where data are missing, libjpeg silently feeds its arithmetic decoder zeros.
      throw ImageError("unsupported JPEG: arithmetic coding; convert it to PNG");
    }
    if (decoder_.num_components == 4 && !decoder_.saw_Adobe_marker) {
      // Adobe stores inks inverted; without its marker they may be either way.
      throw ImageError(
          "unsupported JPEG: CMYK without Adobe's marker, so its colours may be inverted; convert "
          "it to RGB");
    }
  }

  ErrorManager errors_;
  bool is_started_ = false;
  bool between_scans_ = false;  // the last thing read was the end of a scan
  unsigned scanned_ = 0;        // components, a bit each
  jpeg_progress_mgr progress_{};
  Handle<JOCTET, std::free> profile_;
  unsigned profile_bytes_ = 0;
  jpeg_decompress_struct decoder_{};
  Handle<jpeg_decompress_struct, jpeg_destroy_decompress> destroys_{&decoder_};
};

void free_buffer(unsigned char** buffer) { std::free(*buffer); }

/// Of a quality from 1 to 100, with a sample of colour for that many pixels per axis.
std::vector<std::uint8_t> write_jpeg(const torch::Tensor& tensor, int quality, int pixels_a_colour,
                                     const Original* original = nullptr) {
  check_side(tensor, JPEG_MAX_DIMENSION, "JPEG");
  ErrorManager errors;
  install(errors);
  jpeg_compress_struct encoder{};
  encoder.err = &errors.base;
  unsigned char* buffer = nullptr;  // libjpeg allocates and grows it with malloc
  unsigned long size = 0;
  const Handle<unsigned char*, free_buffer> frees(&buffer);
  const Handle<jpeg_compress_struct, jpeg_destroy_compress> destroys(&encoder);
  const auto* pixels = tensor.const_data_ptr<std::uint8_t>();
  const auto channels = static_cast<int>(tensor.size(2));
  const auto stride = static_cast<std::size_t>(tensor.size(1) * channels);
  std::optional<JpegReader> after;
  std::vector<std::uint8_t> exif;
  if (original) {
    after.emplace(original->bytes, kAnyArea);
    after->note_losses(original->lost);
    after->read_profile(*original);
    exif = upright_exif(after->exif());
  }
  const auto calls = [&] {
    jpeg_create_compress(&encoder);
    jpeg_mem_dest(&encoder, &buffer, &size);
    encoder.image_height = static_cast<JDIMENSION>(tensor.size(0));
    encoder.image_width = static_cast<JDIMENSION>(tensor.size(1));
    encoder.input_components = channels;
    encoder.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&encoder);
    jpeg_set_quality(&encoder, quality, /*force_baseline=*/TRUE);
    for (int c = 0; c < encoder.num_components; ++c) {
      const int samples = c == 0 && channels == 3 ? pixels_a_colour : 1;
      encoder.comp_info[c].h_samp_factor = encoder.comp_info[c].v_samp_factor = samples;
    }
    if (after) {
      after->write_notes(encoder, exif);
    } else {
      jpeg_start_compress(&encoder, /*write_all_tables=*/TRUE);
    }
    while (encoder.next_scanline < encoder.image_height) {
      // The API lacks a const.
      auto* row = const_cast<std::uint8_t*>(pixels + encoder.next_scanline * stride);
      jpeg_write_scanlines(&encoder, &row, /*num_lines=*/1);
    }
    jpeg_finish_compress(&encoder);
  };
  if (!succeeds(errors, calls)) {
    throw ImageError(std::string("cannot encode JPEG: ") + errors.message);
  }
  return {buffer, buffer + size};
}

std::vector<std::uint8_t> encode_jpeg(const torch::Tensor& pixels, const Original* original) {
  return write_jpeg(pixels, kNearlyLossless, /*pixels_a_colour=*/1, original);  // 4:4:4
}

}  // namespace

const Codec kJpeg = codec_of<JpegReader>(encode_jpeg, /*holds_16_bits=*/false);

Decoded decode_jpeg_reduced(Bytes bytes, int channels, std::int64_t max_pixels, int reduction) {
  JpegReader reader(bytes, max_pixels);
  reader.reduce(reduction);
  return {reader.info, reader.decode(channels)};
}

std::vector<std::uint8_t> encode_jpeg_at(const torch::Tensor& pixels, int quality) {
  return write_jpeg(pixels, quality, /*pixels_a_colour=*/2);
}

}  // namespace convae::codec
