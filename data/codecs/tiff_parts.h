#pragma once

// What reading and writing TIFF share.

#include "convae/core/files.h"
#include "convae/data/codecs/codecs.h"

#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <exception>
#include <string>
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

/// The pictures of a file that are pages, not smaller versions or masks of others.
struct Pages {
  int count = 0;
  int first = 0;            ///< place of the first among all directories
  bool is_cut = false;      ///< a link leads beyond the end
  bool is_indexed = false;  ///< the first says that its samples are colours of a palette
};

/// Walks the directories by their links alone: libtiff would parse each one, and hostile links may
/// form a circle.
Pages find_pages(Bytes bytes);

/// Planes that writers put behind one another in one page: ImageJ's stacks, tifffile's arrays,
/// MetaMorph's stacks and volumes after SGI. 1: none are noted.
int noted_planes(TIFF* tiff, Size page, int samples);

/// Resolution, place, colour profile and all that writers added, from one file to another; what
/// cannot be taken along is noted in original.lost.
void take_tags(TIFF* from, TIFF* to, const Original& original);
/// The same from the picture of the file `like` to one in tiles with so many channels; `lost` also
/// gets what else those cannot take over, but alpha.
void take_tags_in_tiles(Bytes like, TIFF* to, std::int64_t channels,
                        std::vector<std::string>& lost);

}  // namespace convae::codec
