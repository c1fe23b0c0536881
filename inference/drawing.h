#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/data/options.h"
#include "convae/inference/model.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace CONVAE_API convae {

struct SampleOptions {
  std::filesystem::path output;  ///< folder of the images; made where it is missing
  std::int64_t count = 16;       ///< images to draw, 1 to 100,000
  Size size;                     ///< of the images; a dense latent has its own
  std::uint64_t seed = 0;        ///< image i depends on this and on i alone
  std::int64_t workers = -1;     ///< threads that write images; -1: as many as cores
  bool overwrite = false;        ///< replace files that exist
};

struct InterpolateOptions {
  std::filesystem::path from, to;  ///< two image files
  std::filesystem::path output;    ///< folder of the pictures; made where it is missing
  std::int64_t steps = 8;          ///< pictures, both ends included, 2 to 10,000
  Size size;  ///< of the pictures; {0, 0}: the first image's, or that of a dense latent
  std::int64_t max_pixels = kDefaultMaxPixels;  ///< larger images cannot be used
  std::int64_t workers = -1;                    ///< threads that write images; -1: as many as cores
  bool overwrite = false;                       ///< replace files that exist
};

/// What a job drew.
struct DrawnPictures {
  std::vector<std::string> images;  ///< names of PNG files in the output folder
  std::string sheet;                ///< name of the picture that shows them together …
  std::int64_t on_sheet = 0;        ///< … or so many of them
  Size size;                        ///< of each
};

/// Draws images of a variational model, sample_00001.png and so on, and the first 64 of them
/// together in samples.png. Throws OptionError, std::runtime_error where the model is not
/// variational or a file exists or cannot be written, and Interrupted: then without the sheet.
DrawnPictures draw_samples(const Model& model, const SampleOptions& options,
                           const Callbacks& callbacks = {});

/// Draws what lies between two images' latents in even steps, step_00001.png and so on, and up to
/// 32 of them side by side in strip.png. Throws OptionError, std::runtime_error where an image
/// cannot be read or a file exists or cannot be written, and Interrupted: then without the strip.
DrawnPictures interpolate(const Model& model, const InterpolateOptions& options,
                          const Callbacks& callbacks = {});

}  // namespace convae
