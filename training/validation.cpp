#include "convae/training/validation.h"

#include "convae/metrics/image_metrics.h"
#include "convae/training/corruption.h"
#include "convae/training/losses.h"

namespace convae {
namespace {

/// What the network makes of `inputs`, in its range, and each image's loss.
struct Reconstructions {
  torch::Tensor images;
  torch::Tensor losses;
};

Reconstructions reconstruct(Autoencoder& net, const torch::Tensor& inputs,
                            const torch::Tensor& targets, const TrainOptions& options) {
  const Size size{inputs.size(2), inputs.size(3)};
  torch::Tensor latent;
  torch::Tensor divergences;
  if (net->options().variational) {
    const LatentDistribution distribution = net->encoder->distributions({inputs})[0];
    latent = distribution.mean;
    divergences = divergence(distribution);
  } else {
    latent = net->encoder->forward(inputs);
  }
  Reconstructions result{net->decoder->forward(latent, size), {}};
  result.losses = image_losses(result.images, targets, options.loss, net->options().output);
  if (divergences.defined()) result.losses = result.losses + options.beta * divergences;
  return result;
}

}  // namespace

Quality validate(Autoencoder& net, ImageDataset& dataset, const TrainOptions& options,
                 torch::Device device, std::int64_t workers,
                 const std::function<bool()>& should_stop,
                 const std::function<void(std::int64_t, ImageQuality)>& on_image) {
  torch::NoGradGuard no_grad;
  const bool was_training = net->is_training();
  net->eval();
  const Output range = net->options().output;
  const CorruptionRule rule{options.corruptions, options.seed, /*epoch=*/0};
  ImageMean losses, errors, psnrs, ssims;
  Loader loader(dataset, plan_in_order(dataset, options.batch_size), View{}, workers);
  while (const auto step = loader.next()) {
    if (should_stop && should_stop()) break;
    for (const MicroBatch& batch : *step) {
      const torch::Tensor images = to_float(batch.images, device);
      const torch::Tensor inputs = to_model_range(corrupt(images, rule, batch.indices), range);
      const Reconstructions made = reconstruct(net, inputs, to_model_range(images, range), options);
      // An image whose loss overflowed must count, or a diverged model would look like a good one.
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      losses.add(made.losses.nan_to_num(kInfinity, kInfinity));
      const torch::Tensor reconstruction = to_unit_range(made.images, range);
      const torch::Tensor mse = image_mse(reconstruction, images);
      errors.add(mse);
      const torch::Tensor ssim = image_ssim(reconstruction, images);
      ssims.add(ssim);
      for (std::int64_t i = 0; i < mse.numel(); ++i) {
        const std::int64_t index = batch.indices[i];
        const ImageQuality image{dataset.entry(index).file.name, dataset.image_size(index),
                                 mse[i].item<double>(), psnr(mse[i].item<double>()),
                                 ssim[i].item<double>()};
        psnrs.add(image.psnr);
        if (on_image) on_image(index, image);
      }
    }
  }
  net->train(was_training);
  return {losses.count(), losses.mean(), errors.mean(), psnrs.mean(), ssims.mean()};
}

}  // namespace convae
