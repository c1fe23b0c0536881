#pragma once

#include "convae/data/codecs/codecs.h"

#include <tiffio.h>

#include <cstdint>

namespace convae::codec {

/// The pictures of a file that are pages, not smaller versions or masks of others.
struct Pages {
  int count = 0;
  int first = 0;        ///< place of the first among all directories
  bool is_cut = false;  ///< a link leads beyond the end
};

/// Walks the directories by their links alone: libtiff would parse each one, and hostile links may
/// form a circle.
Pages find_pages(Bytes bytes);

/// Planes that writers put behind one another in one page: ImageJ's stacks, tifffile's arrays,
/// MetaMorph's stacks and volumes after SGI. 1: none are noted.
int noted_planes(TIFF* tiff, std::int64_t page_values);

}  // namespace convae::codec
