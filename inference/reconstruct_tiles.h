#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/windows.h"
#include "convae/inference/folder.h"
#include "convae/inference/reconstruct.h"

#include <filesystem>
#include <string>
#include <vector>

namespace convae {

/// Files that come of one picture; empty: not asked for.
struct TiledFiles {
  std::filesystem::path reconstruction, grid, error_map;
  WriteAs format = WriteAs::png;
};

/// Puts a picture of a folder through its model in tiles, and writes what comes of it row by row.
/// All numbers and pixels are those of the whole picture, but for rounding. `lost` gets what a file
/// has and its reconstruction has not, in words. Throws ImageError where the picture cannot be
/// read, std::runtime_error where a file cannot be written or the output is not finite, and
/// Interrupted: without files then.
ImageQuality reconstruct_in_tiles(const ModelFolder& folder, std::int64_t index,
                                  ImageWindows& picture, const TiledFiles& files,
                                  const Callbacks& callbacks, std::vector<std::string>& lost);

}  // namespace convae
