#pragma once

#include "convae/data/options.h"

#include <filesystem>
#include <string>
#include <vector>

namespace convae {

/// Sides of a report's pictures, at most.
inline constexpr std::int64_t kThumbnailSide = 144;

/// A row of a sample picture, as data: URIs.
struct ThumbnailRow {
  std::string input, reconstruction, error;
};

/// Cuts a run's sample picture up. `sizes` are those of its images in the network, from the top.
/// Pixels that the picture shows enlarged are taken back to their size and kept exactly.
/// Empty where the picture is none of such images. Throws std::runtime_error or ImageError where it
/// cannot be read.
std::vector<ThumbnailRow> cut_sample(const std::filesystem::path& picture,
                                     const std::vector<Size>& sizes);

}  // namespace convae
