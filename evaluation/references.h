#pragma once

#include "convae/data/split.h"
#include "convae/evaluation/evaluate.h"
#include "convae/metrics/pca.h"

#include <torch/types.h>

#include <optional>
#include <set>
#include <string>

namespace convae {

class ModelFolder;

/// Latents as 8-bit codes: each channel of a map, or each number of a dense latent, has 256 evenly
/// spaced values over the range it was seen in.
class LatentRounding {
public:
  /// Widens the ranges to hold these latents: (N, c, h, w) or (N, D) float; or those of all images
  /// of a folder.
  void see(const torch::Tensor& latents);
  void see(ModelFolder& folder);

  /// What the codes stand for: each number's nearest value, those outside their range at its end.
  /// Needs latents to have been seen.
  torch::Tensor round(const torch::Tensor& latents) const;

private:
  torch::Tensor low_, high_;  // (1, c, 1, 1) or (1, D)
};

/// What a network is compared with, fitted to training images.
struct References {
  std::string missing;  ///< why there are none; empty: there are

  std::string folder;        ///< of the training images, as the user or the run named it
  std::set<ImageId> files;   ///< theirs
  std::int64_t images = 0;   ///< how many were used
  RowStatistics statistics;  ///< of them as rows, see rows_of_images(), where they have one size
  std::optional<Pca> pca;    ///< of as many numbers as the latent has
  PcaMethod pca_method{};
  std::string why_no_pca;   ///< where there is none
  LatentRounding rounding;  ///< over the ranges of the training images' latents
};

/// Fits them to the images of options.train_data or, where that is empty, to those that the model's
/// run was trained on, without its validation share; all at `size` or, where that is {0, 0}, each
/// at its own, which only `rounding` can be fitted to. Reads them several times.
/// Throws Interrupted; std::runtime_error where train_data has none that can be read. A run's own
/// images may be gone or damaged: then `missing` says so.
References fit_references(const Model& model, const EvaluateOptions& options, Size size,
                          const Callbacks& callbacks);

}  // namespace convae
