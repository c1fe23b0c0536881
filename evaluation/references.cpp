#include "convae/evaluation/references.h"

#include "convae/app/train_setup.h"
#include "convae/app/training_data.h"
#include "convae/core/files.h"
#include "convae/training/validation.h"

#include <spdlog/spdlog.h>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

/// Batches of small images, which kMaxBatchPixels does not bound.
constexpr std::int64_t kImagesABatch = 512;

/// How the training images are to be found: as the run did, but at `size`.
Options options_of_training(const Options& options, const Model& model, Size size) {
  Options training;
  if (options.call.train_data.empty()) {
    training = saved_options(model.info(), model.path().string());
  } else {
    training.data.data = options.call.train_data;
    training.data.val_split = 0;
  }
  if (!training.data.val.empty()) {  // then all of `data` was trained on
    training.data.val.clear();
    training.data.val_split = 0;
  }
  training.model = model.options();
  training.data.size = size;
  training.data.crop = {};
  training.data.workers = options.data.workers;
  training.data.skip_bad = options.data.skip_bad;
  training.data.max_pixels = options.data.max_pixels;
  training.data.channels = model.options().channels;
  return training;
}

TrainingImages open_training_images(const Options& options) {
  TrainingData found = find_images(options);
  log_skipped(found.skipped);
  TrainingImages training;
  training.folder = options.data.data;
  const fs::path root = fs::weakly_canonical(options.data.data);
  for (const ImageEntry& entry : found.training) {
    training.paths.insert((root / entry.file.name).string());
  }
  spdlog::info("training images {} from {}", found.training.size(), printable(training.folder));
  training.dataset = std::make_unique<ImageDataset>(
      std::move(found.training), ImageDataset::Options{.channels = options.data.channels,
                                                       .size = options.data.size,
                                                       .crop = {},
                                                       .cache = Cache::automatic,
                                                       .skip_bad = options.data.skip_bad,
                                                       .max_pixels = options.data.max_pixels});
  training.dataset->on_bad_file = [](const SkippedFile& bad) { log_skipped({bad}); };
  return training;
}

}  // namespace

TrainingImages find_training_images(const Options& options, const Model& model, Size size) {
  const bool is_named = !options.call.train_data.empty();
  TrainingImages none;
  try {
    const Options training = options_of_training(options, model, size);
    if (!training.data.data.empty()) return open_training_images(training);
    none.missing = "the checkpoint does not say what it was trained on";
  } catch (const std::runtime_error& error) {
    if (is_named) throw;
    none.missing = std::string("the run's training images cannot be used (") + error.what() + ")";
  }
  none.missing += "; name a folder with --train-data DIR";
  return none;
}

void for_each_batch(ImageDataset& dataset, std::int64_t workers, ProgressBar& progress,
                    const char* title, const std::function<void(const MicroBatch&)>& use) {
  Loader loader(dataset, plan_in_order(dataset, kImagesABatch, kMaxBatchPixels), View{}, workers);
  std::int64_t done = 0;
  while (const auto step = loader.next()) {
    for (const MicroBatch& batch : *step) use(batch);
    done += image_count(*step);
    progress.show(title, done, dataset.size(), done);
  }
  progress.clear();
}

References fit_references(TrainingImages& training, Inference& inference,
                          std::int64_t latent_numbers, bool quiet) {
  ImageDataset& dataset = *training.dataset;
  const Size size = dataset.image_size(0);
  RowSource source{dataset.size(), dataset.options().channels * size.h * size.w, {}};
  source.for_each_block = [&](const std::function<void(const torch::Tensor&)>& take) {
    ProgressBar progress(!quiet);
    for_each_batch(dataset, inference.workers, progress, "fit references",
                   [&](const MicroBatch& batch) {
                     take(rows_of_images(to_float(batch.images, torch::kCPU)));
                   });
  };
  References references;
  references.statistics = row_statistics(source);
  const std::int64_t rows = references.statistics.count;
  if (rows == 0) {
    throw std::runtime_error("none of the images in '" + printable(training.folder) +
                             "' could be read");
  }
  if (const auto method = choose_pca_method(rows, source.numbers, latent_numbers)) {
    references.pca = fit_pca(source, references.statistics, latent_numbers, *method);
    references.pca_method = *method;
  } else {
    references.why_no_pca = why_no_pca(rows, source.numbers, latent_numbers);
  }
  ProgressBar progress(!quiet);
  for_each_batch(
      dataset, inference.workers, progress, "latent ranges", [&](const MicroBatch& batch) {
        references.rounding.see(
            encode_images(inference.model.net(), to_float(batch.images, inference.device)));
      });
  return references;
}

}  // namespace convae::app
