#include "convae/inspection/scoring.h"

#include "convae/app/output/progress_bar.h"
#include "convae/training/validation.h"

namespace convae::app {
namespace {

/// (C, H, W) minus the mean of each colour.
torch::Tensor without_mean(const torch::Tensor& image) {
  return image - image.mean({1, 2}, /*keepdim=*/true);
}

Leftovers leftovers_of(const torch::Tensor& input, const torch::Tensor& output) {
  Leftovers left;
  const auto brightness = input.mean().item<double>();
  left.views.resize(kViews);
  left.views[kResidual] = {input - output, brightness};
  left.views[kImage] = {without_mean(input), brightness};
  left.mean_error = left.views[kResidual].values.square().mean().item<double>();
  return left;
}

}  // namespace

void for_each_leftovers(Inference& inference, const Options& options, const std::string& title,
                        const std::function<bool(const Leftovers&)>& use) {
  torch::NoGradGuard no_grad;
  ProgressBar progress(!options.run.quiet);
  std::int64_t done = 0;
  Loader loader(inference.dataset,
                plan_in_order(inference.dataset, options.train.batch_size, kMaxBatchPixels), View{},
                inference.workers);
  while (const auto step = loader.next()) {
    for (const MicroBatch& batch : *step) {
      const torch::Tensor input = inference.network_input(batch.images);
      const torch::Tensor output = reconstruct_images(inference.model.net(), input).cpu();
      const torch::Tensor inputs = input.cpu();
      for (std::int64_t i = 0; i < inputs.size(0); ++i) {
        Leftovers left = leftovers_of(inputs[i], output[i]);
        left.index = batch.indices[static_cast<std::size_t>(i)];
        left.pixels = batch.images[i];
        require_finite(left.mean_error, inference.dataset.entry(left.index).file.name);
        if (!use(left)) return;
        ++done;
        progress.show(title, done, inference.dataset.size(), done);
      }
    }
  }
}

}  // namespace convae::app
