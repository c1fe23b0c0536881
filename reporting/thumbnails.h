#pragma once

#include "convae/data/options.h"

#include <filesystem>
#include <string>
#include <vector>

namespace convae {

/// Longest side of a report's pictures.
inline constexpr std::int64_t kThumbnailSide = 144;

/// A row of a sample picture, as data: URIs.
struct ThumbnailRow {
  std::string input, reconstruction, error;
};

/// Cuts up a run's sample picture. `sizes` are those of its images in the network, from the top.
/// Enlarged images return to their own size, pixel by pixel. Empty where the picture does not match
/// `sizes`. Throws std::runtime_error or ImageError where it cannot be read.
std::vector<ThumbnailRow> cut_sample(const std::filesystem::path& picture,
                                     const std::vector<Size>& sizes);

}  // namespace convae
