#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/data/effects.h"
#include "convae/evaluation/evaluation.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"

#include <cstdint>
#include <filesystem>
#include <string>

namespace CONVAE_API convae {

struct EvaluateOptions {
  /// The images. References need one size of all, such as images.data.size.
  FolderOptions images{.data = {}, .batch_size = 512};
  std::string train_data;  ///< folder that references are fitted to; empty: the run's own images
  std::filesystem::path output;  ///< folder for evaluate.csv and evaluate.json; empty: none
  bool overwrite = false;        ///< replace files that exist
  Effects corruptions;     ///< of what the network is shown; always the same ones for one seed
  std::uint64_t seed = 0;  ///< of the corruptions
};

/// Measures how well a model gives the images of a folder back, beside free references: PCA and the
/// mean image fitted to training images, the network's latents in 8 bits and JPEG in as many bytes.
/// With corruptions, how well it restores images, beside what costs nothing: the corrupted image
/// itself, a Gaussian blur and non-local means, each filter as strong as is best for these images.
/// References that cannot be computed are left out, with the reason. Names of files are checked
/// first, and the files written last.
/// Throws OptionError, also where corruptions and train_data are given, or one of the images lies
/// directly in the output folder; what find_images() throws, std::runtime_error where `train_data`
/// or none of the images can be used, where the network's output is not finite and where a file
/// exists or cannot be written, and Interrupted.
Evaluation evaluate(const Model& model, const EvaluateOptions& options,
                    const Callbacks& callbacks = {});

}  // namespace convae
