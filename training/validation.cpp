#include "convae/training/validation.h"

#include "convae/metrics/image_metrics.h"
#include "convae/metrics/similarity.h"
#include "convae/training/corruption.h"
#include "convae/training/losses.h"

namespace convae {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// What the autoencoder makes of `inputs`, in its range, and each image's loss.
std::pair<torch::Tensor, torch::Tensor> images_and_losses(Autoencoder& net,
                                                          const torch::Tensor& inputs,
                                                          const torch::Tensor& targets,
                                                          const TrainOptions& options) {
  const Size size{inputs.size(2), inputs.size(3)};
  const auto losses_of = [&](const torch::Tensor& images) {
    return image_losses(images, targets, options.loss, net->options().output);
  };
  if (!net->options().variational) {
    const torch::Tensor images = net->forward(inputs);
    return {images, losses_of(images)};
  }
  const LatentDistribution distribution = net->encoder->distributions({inputs})[0];
  const torch::Tensor images = net->decoder->forward(distribution.mean, size);
  return {images, losses_of(images) + options.beta * divergence(distribution)};
}

}  // namespace

Quality validate(Autoencoder& net, ImageDataset& dataset, const TrainOptions& options,
                 torch::Device device, std::int64_t workers,
                 const std::function<bool()>& should_stop, std::int64_t max_pixels,
                 const GoodPictures& good_pictures) {
  torch::NoGradGuard no_grad;
  const bool was_training = net->is_training();
  net->eval();
  const Output range = net->options().output;
  const CorruptionRule rule{options.corruptions, options.seed, /*epoch=*/0, good_pictures};
  ImageMean losses, errors, psnrs, ssims;
  Quality quality;
  Loader loader(dataset, plan_in_order(dataset, options.batch_size, max_pixels), View{}, workers);
  while (const auto step = loader.next()) {
    if (should_stop && should_stop()) break;
    for (const MicroBatch& batch : *step) {
      const torch::Tensor images = to_float(batch.images, device);
      torch::Tensor labels;
      const torch::Tensor shown =
          corrupt(images, rule, batch.indices, net->detector ? &labels : nullptr);
      const auto [made, made_losses] = images_and_losses(net, to_model_range(shown, range),
                                                         to_model_range(images, range), options);
      const torch::Tensor reconstruction = to_unit_range(made, range);
      torch::Tensor all_losses = made_losses;
      if (net->detector) {
        const Maps logits = net->detector->logits({shown}, {reconstruction});
        all_losses = all_losses + detection_losses(logits[0], labels);
      }
      losses.add(all_losses.nan_to_num(kInfinity, kInfinity));
      const torch::Tensor mse = image_mse(reconstruction, images).nan_to_num(kInfinity, kInfinity);
      errors.add(mse);
      torch::Tensor ssim = image_ssim(reconstruction, images);
      // Small images have none.
      const bool has_ssim = std::min(images.size(2), images.size(3)) >= kSimilarityWindow;
      if (has_ssim) ssim = ssim.nan_to_num(-kInfinity);
      ssims.add(ssim);
      for (std::int64_t i = 0; i < mse.numel(); ++i) {
        const std::int64_t index = batch.indices[i];
        quality.indices.push_back(index);
        quality.images.push_back({dataset.entry(index).file.name, dataset.image_size(index),
                                  mse[i].item<double>(), psnr(mse[i].item<double>()),
                                  ssim[i].item<double>()});
        psnrs.add(quality.images.back().psnr);
      }
    }
  }
  net->train(was_training);
  quality.loss = losses.mean();
  quality.mse = errors.mean();
  quality.psnr = psnrs.mean();
  quality.ssim = ssims.mean();
  return quality;
}

}  // namespace convae
