#include "convae/evaluation/references.h"

#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/header_index.h"
#include "convae/data/loader.h"
#include "convae/data/split.h"
#include "convae/inference/folder.h"
#include "convae/models/pixels.h"
#include "convae/training/collective.h"
#include "convae/training/saved_data.h"

namespace convae {
namespace {

/// How the training images are found: as the run did, but at `size`.
DataOptions training_data(const Model& model, const EvaluateOptions& options, Size size) {
  const bool is_named = !options.train_data.empty();
  DataOptions data;
  data.data = options.train_data;
  if (!is_named) data = saved_data(model.info()).data;
  // All images of a folder that was named, or that has its validation images elsewhere.
  if (is_named || !data.val.empty()) data.val_split = 0;
  // Validation images are taken out of training, which their folder, if it is gone, cannot show.
  if (!data.val.empty() && !has_images(data.val)) data.val.clear();
  data.size = size;
  data.crop = {};
  data.channels = model.options().channels;
  data.workers = options.images.data.workers;
  data.skip_bad = options.images.data.skip_bad;
  data.max_pixels = options.images.data.max_pixels;
  data.index = index_beside_run(model.path());
  return data;
}

/// The training images, all of a folder that was named, with their folder and files; none where a
/// run's own cannot be used.
ImageEntries find_training_images(const Model& model, const DataOptions& data, bool is_named,
                                  References& references, const Callbacks& callbacks) {
  SplitImages split = split_images(data, unfit_for(model.options(), data.size), callbacks);
  if (leads()) split.keep_headers();
  if (!is_named) keep_to_trained_images(split, run_of(model), model.info(), callbacks);
  ImageEntries images = std::move(split.training);
  if (images.empty()) throw std::runtime_error("none of them is left in " + in_quotes(data.data));
  for (const ImageFile& file : images.files()) references.files.insert(image_id(file));
  references.folder = data.data;
  callbacks.say("training images " + std::to_string(images.size()) + " from " +
                printable(data.data));
  return images;
}

/// Sums of images and what is found of them, in float and double.
bool fits_rows(Size size, std::int64_t channels) {
  constexpr std::int64_t kBytesAValue = 64;
  const std::int64_t free = least_of_ranks(free_memory_bytes());
  return free == 0 || size.area() <= free / (kBytesAValue * channels);
}

/// To images at one size, data.size.
void fit_rows(References& references, const ImageEntries& images, const DataOptions& data,
              const Model& model, const EvaluateOptions& options, const Callbacks& callbacks) {
  ImageDataset dataset(images, {.channels = data.channels,
                                .size = data.size,
                                .crop = {},
                                .cache = Cache::automatic,
                                .skip_bad = data.skip_bad,
                                .max_pixels = data.max_pixels,
                                .value_range = model.info().value_range});
  const std::int64_t most_bytes = least_of_ranks(pca_bytes());
  BatchOptions batches;
  batches.batch_size = options.images.batch_size;
  batches.max_pixels = kPcaPixels;
  batches.workers = worker_count(data.workers);
  const Size size = data.size;
  RowSource source{dataset.size(), dataset.options().channels * size.h * size.w, {}};
  source.for_each_block = [&](const std::function<void(const torch::Tensor&)>& take) {
    batches.stage = "fit references";
    for_each_batch(dataset, batches, callbacks, [&](const MicroBatch& batch) {
      take(rows_of_images(to_float(batch.images, torch::kCPU)));
    });
  };
  references.statistics = row_statistics(source);
  const std::int64_t rows = references.statistics.count;
  if (rows == 0) {
    throw std::runtime_error("none of the images in " + in_quotes(references.folder) +
                             " could be read");
  }
  const std::int64_t components = c10::multiply_integers(model.options().latent_shape(size));
  if (const auto method = choose_pca_method(rows, source.numbers, components, most_bytes)) {
    references.pca = fit_pca(source, references.statistics, components, *method);
    references.pca_method = *method;
  } else {
    references.why_no_pca = why_no_pca(rows, source.numbers, components, most_bytes);
  }
}

}  // namespace

void LatentRounding::see(const torch::Tensor& latents) {
  std::vector<std::int64_t> others = {0};  // all axes but the channels'
  if (latents.dim() == 4) others = {0, 2, 3};
  const torch::Tensor low = latents.amin(others, /*keepdim=*/true);
  const torch::Tensor high = latents.amax(others, /*keepdim=*/true);
  low_ = low_.defined() ? torch::minimum(low_, low) : low;
  high_ = high_.defined() ? torch::maximum(high_, high) : high;
}

void LatentRounding::see(ModelFolder& folder) {
  folder.for_each(
      "latent ranges",
      [&](const MicroBatch& batch) {
        LatentRounding own;
        own.see(folder.model().encode(folder.network_input(batch.images)));
        return torch::cat({own.low_, own.high_});
      },
      [&](const torch::Tensor& ends) { see(ends); });
}

torch::Tensor LatentRounding::round(const torch::Tensor& latents) const {
  constexpr double kLargestCode = 255;
  // A channel that never varies has one value; any step but zero gives it back.
  const torch::Tensor step =
      torch::where(high_ > low_, (high_ - low_) / kLargestCode, torch::ones_like(low_));
  const torch::Tensor codes = ((torch::clamp(latents, low_, high_) - low_) / step).round();
  return low_ + codes * step;
}

References fit_references(const Model& model, const EvaluateOptions& options, Size size,
                          const Callbacks& callbacks) {
  References references;
  if (!size) {
    references.why_no_pca =
        "the images have several sizes, and these references need one; choose it with --size";
  }
  const auto leave_out = [&](const std::string& reason) {
    references.missing = reason + "; name a folder with --train-data DIR";
    references.rounding = {};
    references.statistics = {};
    references.pca.reset();
    if (size) references.why_no_pca = references.missing;
  };
  const bool is_named = !options.train_data.empty();
  try {
    const DataOptions data = training_data(model, options, size);
    if (data.data.empty()) {
      leave_out("the checkpoint does not say what it was trained on");
      return references;
    }
    const ImageEntries images = find_training_images(model, data, is_named, references, callbacks);
    FolderOptions seen = options.images;
    seen.data.size = size;
    // Its batches are planned by free memory, of which what follows keeps a part.
    ModelFolder folder(model, {{}, images, {}}, seen, callbacks, ImagesAt::network_size);
    if (size && fits_rows(size, model.options().channels)) {
      fit_rows(references, images, data, model, options, callbacks);
    } else if (size) {
      references.why_no_pca = "its mean and components at " + to_string(size) +
                              " take more memory than is free; try a smaller --size";
    }
    references.rounding.see(folder);
    references.images = folder.size() - std::ssize(folder.skipped());
  } catch (const Interrupted&) {
    throw;
  } catch (const std::runtime_error& error) {
    const bool others_may_wait = !references.files.empty() && ranks().size() > 1;
    if (is_named || others_may_wait) throw;
    // None can be found or read; or at their own size they may be larger than memory.
    leave_out(std::string("the run's training images cannot be used (") + error.what() + ")");
  }
  return references;
}

}  // namespace convae
