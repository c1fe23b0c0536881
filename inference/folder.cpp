#include "convae/inference/folder.h"

#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/header_index.h"
#include "convae/models/pixels.h"
#include "convae/training/memory.h"

#include <torch/nn/functional/upsampling.h>

#include <cmath>
#include <set>

namespace convae {
namespace {

FoundImages images_for(const Model& model, const FolderOptions& options,
                       const Callbacks& callbacks) {
  options.validate();
  const Size fixed = fixed_network_size(options.data.size, model.options());
  DataOptions data = options.data;
  data.index = index_beside_run(model.path());
  FoundImages found =
      find_images(data.data, data, unfit_for(model.options(), fixed), callbacks, options.prefix);
  found.keep_headers();
  callbacks.say("images " + std::to_string(found.entries.size()) + " · skipped " +
                std::to_string(found.skipped.size()));
  callbacks.say("device " + model.device().str());
  return found;
}

}  // namespace

void FolderOptions::validate() const {
  data.validate();
  if (batch_size < 1) {
    throw OptionError("batch-size must be at least 1, but is " + std::to_string(batch_size));
  }
  if (data.size && data.size.h > data.max_pixels / data.size.w) {
    throw OptionError("--size '" + to_string(data.size) + "': more than --max-pixels " +
                      std::to_string(data.max_pixels));
  }
}

Size fixed_network_size(Size asked, const ModelOptions& model) {
  if (model.latent == 0) return asked;
  if (asked && asked != model.size) {
    throw OptionError("--size '" + to_string(asked) +
                      "': this model has a dense latent and works at " + to_string(model.size) +
                      " only; leave --size out");
  }
  return model.size;
}

Refusal unfit_for(const ModelOptions& model, Size fixed_size) {
  return [levels = model.levels, fixed_size](const ImageEntry& entry) {
    return why_impossible(levels, fixed_size ? fixed_size : entry.file_size());
  };
}

torch::Tensor resize_back(const torch::Tensor& images, Size own) {
  if (images.size(2) == own.h && images.size(3) == own.w) return images;
  namespace F = torch::nn::functional;
  return F::interpolate(images, F::InterpolateFuncOptions()
                                    .size(per_axis(own))
                                    .mode(torch::kBilinear)
                                    .align_corners(false)
                                    .antialias(true))
      .clamp(0, 1);
}

void require_finite(double error, const std::string& image) {
  if (std::isfinite(error)) return;
  throw std::runtime_error(in_quotes(image) +
                           ": the network's output is not finite; this checkpoint is of a run "
                           "that diverged");
}

ModelFolder::ModelFolder(Model model, const FolderOptions& options, const Callbacks& callbacks,
                         ImagesAt at)
    : ModelFolder(model, images_for(model, options, callbacks), options, callbacks, at) {}

ModelFolder::ModelFolder(Model model, FoundImages images, const FolderOptions& options,
                         const Callbacks& callbacks, ImagesAt at)
    : model_(std::move(model)),
      callbacks_(callbacks),
      fixed_size_(fixed_network_size(options.data.size, model_.options())),
      skipped_(std::move(images.skipped)),
      dataset_(std::move(images.entries),
               {.channels = model_.options().channels,
                .size = at == ImagesAt::network_size ? fixed_size_ : Size{},
                .crop = {},
                .cache = Cache::none,
                .skip_bad = options.data.skip_bad,
                .max_pixels = options.data.max_pixels,
                .value_range = model_.info().value_range}) {
  batches_.batch_size = options.batch_size;
  batches_.network_size = fixed_size_;
  batches_.workers = worker_count(options.data.workers);
  if (model_.device().is_cpu()) {
    batches_.max_pixels =
        require_memory_for_inference(model_.options(), network_sizes(), free_memory_bytes());
  }
  dataset_.on_bad_file = [this](const SkippedFile& bad) { callbacks_.warn(skipped_line(bad)); };
}

void ModelFolder::for_each(const std::string& stage,
                           const std::function<void(const MicroBatch&)>& use) {
  const torch::NoGradGuard no_grad;
  bool is_empty = true;
  batches_.stage = stage;
  for_each_batch(dataset_, batches_, callbacks_, [&](const MicroBatch& batch) {
    is_empty = false;
    use(batch);
  });
  if (is_empty) throw std::runtime_error("none of the images could be read");
  const std::string clipped = dataset_.clipped_line();
  if (!clipped.empty() && clipped != std::exchange(said_clipped_, clipped)) {
    callbacks_.warn(clipped);
  }
}

std::vector<Size> ModelFolder::network_sizes() const {
  std::set<Size> sizes;
  for (std::int64_t i = 0; i < size(); ++i) sizes.insert(network_size(entry(i).file_size()));
  return {sizes.begin(), sizes.end()};
}

std::vector<std::string> ModelFolder::names() const {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < size(); ++i) names.push_back(name(i));
  return names;
}

std::vector<SkippedFile> ModelFolder::skipped() const {
  std::vector<SkippedFile> all = skipped_;
  for (SkippedFile& bad : dataset_.bad_files()) all.push_back(std::move(bad));
  return all;
}

torch::Tensor ModelFolder::network_input(const torch::Tensor& images) const {
  const Size own{images.size(2), images.size(3)};
  const Size size = network_size(own);
  if (size == own) return to_float(images, model_.device());
  std::vector<torch::Tensor> resized;
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    resized.push_back(resize_image(images[i], size.h, size.w));
  }
  return to_float(torch::stack(resized), model_.device());
}

}  // namespace convae
