#pragma once

#include "convae/core/api.h"
#include "convae/data/options.h"
#include "convae/inference/picture_series.h"

#include <cstdint>
#include <filesystem>

namespace CONVAE_API convae {

struct InterpolateOptions {
  std::filesystem::path from, to;  ///< two image files
  std::filesystem::path output;    ///< folder of the pictures; made where it is missing
  std::int64_t steps = 8;          ///< pictures, both ends included, 2 to 10,000
  Size size;  ///< of the pictures; {0, 0}: the first image's, or that of a dense latent
  std::int64_t max_pixels = kDefaultMaxPixels;  ///< larger images cannot be used
  std::int64_t workers = -1;                    ///< threads that write images; -1: as many as cores
  bool overwrite = false;                       ///< replace files that exist
};

/// Draws what lies between two images' latents in even steps, step_00001.png and so on, and up to
/// 32 of them side by side in strip.png. Throws OptionError, std::runtime_error where an image
/// cannot be read or a file exists or cannot be written, and Interrupted.
DrawnPictures interpolate(const Model& model, const InterpolateOptions& options,
                          const Callbacks& callbacks = {});

}  // namespace convae
