#pragma once

#include "convae/core/api.h"
#include "convae/inference/picture_series.h"

#include <cstdint>
#include <filesystem>

namespace CONVAE_API convae {

struct SampleOptions {
  std::filesystem::path output;  ///< folder of the images; made where it is missing
  std::int64_t count = 16;       ///< images to draw, 1 to 100,000
  Size size;                     ///< of the images; a dense latent has its own
  std::uint64_t seed = 0;        ///< image i depends on this and on i alone
  std::int64_t workers = -1;     ///< threads that write images; -1: as many as cores
  bool overwrite = false;        ///< replace files that exist
};

/// Draws images of a variational model, sample_00001.png and so on, and the first 64 of them
/// together in samples.png. Throws OptionError, std::runtime_error where the model is not
/// variational or a file exists or cannot be written, and Interrupted.
DrawnPictures draw_samples(const Model& model, const SampleOptions& options,
                           const Callbacks& callbacks = {});

}  // namespace convae
