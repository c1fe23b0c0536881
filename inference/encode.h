#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/data/folder.h"
#include "convae/inference/latents_file.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"

#include <filesystem>
#include <vector>

namespace CONVAE_API convae {

struct EncodeOptions {
  FolderOptions images;
  /// A file that ends in .npy, for one array (N, c, h, w) or (N, D) with its table beside it; or,
  /// where it ends in / or is there already, a folder: one file (1, …) an image, and latents.csv.
  std::filesystem::path output;
  Pooling pool = Pooling::none;
  bool overwrite = false;  ///< replace files that exist
};

struct EncodeResult {
  std::vector<LatentRow> rows;  ///< of all images that could be read, by name
  std::vector<SkippedFile> skipped;
};

/// Writes the latents of a folder's images as float32, and their table (see latents_file.h). Throws
/// OptionError, also where latents of different shapes do not fit one array; what find_images()
/// throws; std::runtime_error where a file exists or cannot be written; and Interrupted: then
/// without the array and the table.
EncodeResult encode_folder(const Model& model, const EncodeOptions& options,
                           const Callbacks& callbacks = {});

}  // namespace convae
