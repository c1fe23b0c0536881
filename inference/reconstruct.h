#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/data/effects.h"
#include "convae/data/folder.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"
#include "convae/metrics/image_quality.h"

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

namespace CONVAE_API convae {

struct ReconstructOptions {
  FolderOptions images;
  std::filesystem::path output;  ///< folder of the results; made where it is missing
  WriteAs format = WriteAs::png;
  bool grid = false;       ///< also write input | reconstruction | error to grid/
  bool error_map = false;  ///< also write the error pictures to error/
  bool overwrite = false;  ///< replace files that exist
  Effects corruptions;     ///< of what the network is shown; always the same ones for one seed
  std::uint64_t seed = 0;  ///< of the corruptions
};

struct ReconstructedImage {
  ImageQuality quality;  ///< at the image's own size
  double input_mse = 0;  ///< of what the network was shown, 0 where that was not corrupted
};

/// Of all images that could be read, by name, and their means.
struct ReconstructResult {
  std::vector<ReconstructedImage> images;
  std::vector<SkippedFile> skipped;
  double mse = 0;
  double psnr = 0;                                         ///< dB
  double ssim = std::numeric_limits<double>::quiet_NaN();  ///< NaN where no image has one
  double input_psnr = 0;                                   ///< of what the network was shown
  bool corrupted = false;
  Precision precision = Precision::fp32;  ///< the network computed in
};

/// path,width,height,mse,psnr,ssim; with corruptions also input_mse,input_psnr; where it is not
/// fp32, precision.
std::string to_csv(const ReconstructResult& result);

/// Puts the images of a folder through a model and writes each one's reconstruction, at exactly its
/// size and under its relative name, and reconstruct.csv. Throws OptionError, what find_images()
/// throws, std::runtime_error where a file exists or cannot be written or where the output is not
/// finite, and Interrupted: then without the table.
ReconstructResult reconstruct_folder(const Model& model, const ReconstructOptions& options,
                                     const Callbacks& callbacks = {});

}  // namespace convae
