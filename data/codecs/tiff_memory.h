#pragma once

#include "convae/core/files.h"
#include "convae/data/codecs/codecs.h"

#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <exception>
#include <vector>

namespace convae::codec {

/// Memory in the shape of a file, reading from `bytes` or writing to `output` or, where there is
/// one, to the file `target`; and what libtiff says about it instead of writing to stderr.
struct TiffMemory {
  Bytes bytes;
  std::vector<std::uint8_t> output;
  AtomicFile* target = nullptr;
  std::uint64_t target_bytes = 0;
  std::exception_ptr failure;  // of writing to it
  std::uint64_t position = 0;
  char error[256] = "";  // the first, which is the cause of the others
  bool warnings_are_errors = false;

  std::uint64_t size() const { return std::max({bytes.size(), output.size(), target_bytes}); }
  void set_error(const char* format, std::va_list arguments);
};

using Tiff = Handle<TIFF, TIFFClose>;

/// Null where it cannot be read, with the reason in memory.error.
Tiff open_tiff(const char* mode, TiffMemory& memory);

/// How a new file holds its pixels.
struct TiffLayout {
  std::int64_t height = 0, width = 0, channels = 0;
  int bits = 8;  ///< of a sample
  std::uint16_t photometric = PHOTOMETRIC_RGB;
  std::uint16_t sample_format = SAMPLEFORMAT_UINT;
};
/// A new file with the tags that say so; null where it cannot be made.
Tiff new_tiff(TiffMemory& memory, const TiffLayout& layout);

}  // namespace convae::codec
