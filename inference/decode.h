#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/data/image_io.h"
#include "convae/inference/model.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace CONVAE_API convae {

struct DecodeOptions {
  /// .npy with its table (.csv) beside it, or a folder of them. Without a table, all of the array
  /// or of the folder's .npy files, at `size`.
  std::filesystem::path latents;
  Size size = {};  ///< of the images; {0, 0}: as the table says, or the one the model works at
  std::filesystem::path output;                 ///< folder of the images; made where it is missing
  std::int64_t workers = -1;                    ///< threads that write images; -1: as many as cores
  std::int64_t max_pixels = kDefaultMaxPixels;  ///< tables with larger images are refused
  bool overwrite = false;                       ///< replace files that exist
};

struct DecodeResult {
  /// PNG files in `output`, in the table's order; without a table, latent_00000.png …
  std::vector<std::string> images;
};

/// Latents that encode_folder() wrote → images, at the sizes of their table. Throws OptionError for
/// options or a model that cannot do it; std::runtime_error naming the file where the table or the
/// latents do not fit the model, or a file exists or cannot be written; and Interrupted.
DecodeResult decode_latents(const Model& model, const DecodeOptions& options,
                            const Callbacks& callbacks = {});

}  // namespace convae
