#include "convae/training/validation.h"

#include "convae/metrics/image_metrics.h"
#include "convae/metrics/similarity.h"
#include "convae/training/collective.h"
#include "convae/training/corruption.h"
#include "convae/training/losses.h"

#include <array>

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

/// What was measured of an image.
struct Measured {
  std::int64_t index;
  double loss, mse, ssim;
};

/// What all ranks measured, in the order of the plan.
std::vector<Measured> measured_by_all(const std::vector<Measured>& own,
                                      const std::vector<Step>& plan, std::int64_t images) {
  if (ranks().size() == 1) return own;
  // By image: whether it was measured, and what. Only one rank has anything to add.
  std::vector<std::array<double, 4>> table(static_cast<std::size_t>(images));
  for (const auto& [index, loss, mse, ssim] : own) table[index] = {1, loss, mse, ssim};
  ranks().sum(std::span(table[0].data(), 4 * table.size()));
  std::vector<Measured> all;
  for (const Step& step : plan) {
    for (const std::int64_t index : step[0].indices) {
      const auto& [is_there, loss, mse, ssim] = table[index];
      if (is_there > 0) all.push_back({index, loss, mse, ssim});
    }
  }
  return all;
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
  std::vector<Measured> measured;
  const std::vector<Step> plan = plan_in_order(dataset, options.batch_size, max_pixels);
  Loader loader(dataset, own_items(plan), View{}, workers);
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
      // Each look at a number of a GPU waits for it: whole tensors come over.
      all_losses = all_losses.to(torch::kCPU, torch::kDouble).nan_to_num(kInfinity, kInfinity);
      const torch::Tensor mse =
          image_mse(reconstruction, images).to(torch::kCPU).nan_to_num(kInfinity, kInfinity);
      torch::Tensor ssim = image_ssim(reconstruction, images).to(torch::kCPU);
      // Small images have none.
      const bool has_ssim = std::min(images.size(2), images.size(3)) >= kSimilarityWindow;
      if (has_ssim) ssim = ssim.nan_to_num(-kInfinity);
      for (std::int64_t i = 0; i < mse.numel(); ++i) {
        measured.push_back({batch.indices[i], all_losses[i].item<double>(), mse[i].item<double>(),
                            ssim[i].item<double>()});
      }
    }
  }
  net->train(was_training);
  ImageMean losses, errors, psnrs, ssims;
  Quality quality;
  for (const auto& [index, loss, mse, ssim] : measured_by_all(measured, plan, dataset.size())) {
    quality.indices.push_back(index);
    quality.images.push_back(
        {dataset.entry(index).file.name, dataset.image_size(index), mse, psnr(mse), ssim});
    losses.add(loss);
    errors.add(mse);
    psnrs.add(psnr(mse));
    ssims.add(ssim);
  }
  quality.loss = losses.mean();
  quality.mse = errors.mean();
  quality.psnr = psnrs.mean();
  quality.ssim = ssims.mean();
  return quality;
}

}  // namespace convae
