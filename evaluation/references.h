#pragma once

#include "convae/app/inference.h"
#include "convae/app/output/progress_bar.h"
#include "convae/evaluation/latent_rounding.h"
#include "convae/metrics/pca.h"

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace convae::app {

/// Images that references are fitted to.
struct TrainingImages {
  std::string folder;                     ///< as the user or the run named it
  std::unique_ptr<ImageDataset> dataset;  ///< at one size; null where there are none
  std::string missing;                    ///< the reason then
  std::set<std::string> paths;            ///< of their files, without links in their folder
};

/// The images of --train-data, or those that the checkpoint's run was trained on, without its
/// validation share, all at `size`. Files that cannot be used are logged.
/// Throws std::runtime_error where --train-data has none; a run's own folder may be gone.
TrainingImages find_training_images(const Options& options, const Model& model, Size size);

/// Calls `use` with all images of a data set, batch by batch, each of one size.
void for_each_batch(ImageDataset& dataset, std::int64_t workers, ProgressBar& progress,
                    const char* title, const std::function<void(const MicroBatch&)>& use);

/// What a network is held against, fitted to training images of one size.
struct References {
  RowStatistics statistics;
  std::optional<Pca> pca;  ///< of as many numbers as the latent has
  PcaMethod pca_method{};
  std::string why_no_pca;   ///< where there is none
  LatentRounding rounding;  ///< ranges of the training images' latents
};

/// Reads the training images several times. Throws std::runtime_error where none can be read.
References fit_references(TrainingImages& training, Inference& inference,
                          std::int64_t latent_numbers, bool quiet);

}  // namespace convae::app
