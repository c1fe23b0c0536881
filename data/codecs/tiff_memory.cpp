#include "convae/data/codecs/tiff_parts.h"

#include <cstdio>
#include <cstring>
#include <string_view>

namespace convae::codec {
namespace {

// Tags of a few hundred bytes can ask for gigabytes. libtiff's own tables (strip offsets) and
// buffers must fit in this; those of this program are bounded by the number of pixels.
constexpr tmsize_t kMaxLibraryBytes = 256 << 20;

TiffMemory& file_of(void* handle) { return *static_cast<TiffMemory*>(handle); }

int on_error(TIFF*, void* file, const char*, const char* format, std::va_list arguments) {
  file_of(file).set_error(format, arguments);
  return 1;  // handled
}

/// While a directory is read, warnings are about unknown tags and harmless. While pixels are read,
/// a warning means that libtiff made some up, such as the rest of a fax line that was cut short.
int on_warning(TIFF*, void* file, const char*, const char* format, std::va_list arguments) {
  const bool harmless = std::string_view(format).starts_with("Old-style LZW");
  if (file_of(file).warnings_are_errors && !harmless) file_of(file).set_error(format, arguments);
  return 1;
}

/// Also of what was written before: libtiff looks at directories again.
tmsize_t read_stream(thandle_t handle, void* to, tmsize_t count) try {
  auto& file = file_of(handle);
  const auto rest = file.size() - std::min(file.position, file.size());
  const auto taken = std::min<std::uint64_t>(rest, static_cast<std::uint64_t>(count));
  if (taken == 0) return 0;
  if (file.target != nullptr) {
    file.target->read_at(file.position, to, taken);
  } else {
    const auto* from = file.output.empty() ? file.bytes.data() : file.output.data();
    std::memcpy(to, from + file.position, taken);
  }
  file.position += taken;
  return static_cast<tmsize_t>(taken);
} catch (const std::exception&) {
  file_of(handle).failure = std::current_exception();
  return 0;
}

tmsize_t write_stream(thandle_t handle, void* from, tmsize_t count) try {
  auto& file = file_of(handle);
  const auto end = file.position + static_cast<std::uint64_t>(count);
  if (file.target != nullptr) {
    file.target->write_at(file.position, from, static_cast<std::size_t>(count));
    file.target_bytes = std::max(file.target_bytes, end);
    file.position = end;
    return count;
  }
  file.output.resize(std::max<std::uint64_t>(file.output.size(), end));
  std::memcpy(file.output.data() + file.position, from, static_cast<std::size_t>(count));
  file.position = end;
  return count;
} catch (const std::exception&) {
  file_of(handle).failure = std::current_exception();
  return 0;  // no exception may pass through libtiff
}

toff_t stream_size(thandle_t handle) { return file_of(handle).size(); }

toff_t seek_stream(thandle_t handle, toff_t offset, int whence) {
  auto& file = file_of(handle);
  const std::uint64_t base = whence == SEEK_SET   ? 0
                             : whence == SEEK_CUR ? file.position
                                                  : file.size();
  return file.position = base + offset;
}

int close_stream(thandle_t) { return 0; }

/// Lets libtiff read the bytes where they are.
int map_stream(thandle_t handle, void** base, toff_t* size) {
  const Bytes bytes = file_of(handle).bytes;
  *base = const_cast<std::uint8_t*>(bytes.data());
  *size = bytes.size();
  return 1;
}

void unmap_stream(thandle_t, void*, toff_t) {}

}  // namespace

void TiffMemory::set_error(const char* format, std::va_list arguments) {
  if (error[0] == '\0') std::vsnprintf(error, sizeof error, format, arguments);
}

Tiff open_tiff(const char* mode, TiffMemory& memory) {
  const Handle<TIFFOpenOptions, TIFFOpenOptionsFree> options(TIFFOpenOptionsAlloc());
  if (!options) throw ImageError("TIFF: out of memory");
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), on_error, &memory);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), on_warning, &memory);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), kMaxLibraryBytes);
  return Tiff(TIFFClientOpenExt("image", mode, &memory, read_stream, write_stream, seek_stream,
                                close_stream, stream_size, map_stream, unmap_stream,
                                options.get()));
}

Tiff new_tiff(TiffMemory& memory, const TiffLayout& layout) {
  // Offsets in a plain TIFF have 32 bits; Deflate adds less than a thousandth.
  constexpr std::int64_t kMostPlainBytes = 4'000'000'000;
  // Deflate rather than LZW: 28 against 31 MP/s on photographs, but 0.57 of the raw bytes against
  // 0.61; level 3 takes half as long again for 0.55.
  constexpr int kDeflateLevel = 1;
  const std::int64_t bytes = layout.height * layout.width * layout.channels * layout.bits / 8;
  Tiff tiff = open_tiff(bytes > kMostPlainBytes ? "w8" : "w", memory);
  TIFF* const to = tiff.get();
  if (to == nullptr) return tiff;
  TIFFSetField(to, TIFFTAG_IMAGELENGTH, static_cast<std::uint32_t>(layout.height));
  TIFFSetField(to, TIFFTAG_IMAGEWIDTH, static_cast<std::uint32_t>(layout.width));
  TIFFSetField(to, TIFFTAG_SAMPLESPERPIXEL, static_cast<int>(layout.channels));
  TIFFSetField(to, TIFFTAG_BITSPERSAMPLE, layout.bits);
  TIFFSetField(to, TIFFTAG_PHOTOMETRIC, layout.photometric);
  TIFFSetField(to, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  if (layout.sample_format != SAMPLEFORMAT_UINT) {
    TIFFSetField(to, TIFFTAG_SAMPLEFORMAT, layout.sample_format);
  }
  TIFFSetField(to, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE);
  TIFFSetField(to, TIFFTAG_ZIPQUALITY, kDeflateLevel);
  // Others' readers know differences along a row of integers of up to 16 bits.
  const bool is_float = layout.sample_format == SAMPLEFORMAT_IEEEFP;
  if (layout.bits <= 16 && !is_float && layout.photometric != PHOTOMETRIC_PALETTE) {
    TIFFSetField(to, TIFFTAG_PREDICTOR, PREDICTOR_HORIZONTAL);
  }
  return tiff;
}

}  // namespace convae::codec
