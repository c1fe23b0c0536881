#pragma once

#include "convae/data/codecs/codecs.h"

#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <vector>

namespace convae::codec {

/// Memory in the shape of a file, reading from `bytes` or writing to `output`; and what libtiff
/// says about it instead of writing to stderr.
struct TiffMemory {
  Bytes bytes;
  std::vector<std::uint8_t> output;
  std::uint64_t position = 0;
  char error[256] = "";  // the first, which is the cause of the others
  bool warnings_are_errors = false;

  std::uint64_t size() const { return std::max(bytes.size(), output.size()); }
  void set_error(const char* format, std::va_list arguments);
};

using Tiff = Handle<TIFF, TIFFClose>;

/// Null where it cannot be read, with the reason in memory.error.
Tiff open_tiff(const char* mode, TiffMemory& memory);

}  // namespace convae::codec
