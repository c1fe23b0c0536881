#include "training/evaluation.h"

#include "models/flat_maps.h"
#include "training/losses.h"
#include "training/metrics.h"

namespace convae {

namespace {

/// Bytes on a CPU, in one pass over all threads.
torch::Tensor bytes_to_float(const torch::Tensor& images) {
  const torch::Tensor bytes = images.contiguous(torch::MemoryFormat::ChannelsLast);
  torch::Tensor floats = torch::empty_like(bytes, torch::kFloat);
  const Pieces pieces({bytes}, bytes.size(1));
  pieces.for_each([&](const Pieces::Piece& piece) {
    kernels_of_this_processor().unit_floats(values<std::uint8_t>(bytes) + piece.begin, piece.count,
                                            values<float>(floats) + piece.begin);
  });
  return floats;
}

}  // namespace

torch::Tensor to_float(const torch::Tensor& images, torch::Device device) {
  if (device.is_cpu() && images.scalar_type() == torch::kByte) return bytes_to_float(images);
  const double range = images.scalar_type() == torch::kUInt16 ? 65535.0 : 255.0;
  const torch::Tensor moved = images.to(device, /*non_blocking=*/true);
  return moved
      .to(torch::kFloat, /*non_blocking=*/false, /*copy=*/false, torch::MemoryFormat::ChannelsLast)
      .div_(range);
}

Quality evaluate(Autoencoder& net, ImageDataset& dataset, LossKind loss, std::int64_t batch_size,
                 torch::Device device, std::int64_t workers,
                 const std::function<bool()>& should_stop) {
  torch::NoGradGuard no_grad;
  const bool was_training = net->is_training();
  net->eval();
  ImageMean losses, errors, psnrs, ssims;
  Loader loader(dataset, plan_in_order(dataset, batch_size), CropRule{}, workers);
  while (const auto step = loader.next()) {
    if (should_stop && should_stop()) break;
    for (const MicroBatch& batch : *step) {
      const torch::Tensor images = to_float(batch.images, device);
      const torch::Tensor target = to_model_range(images, net->options().output);
      const torch::Tensor output = net->forward(target);
      // An image whose loss overflowed must count, or a diverged model would look like a good one.
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      losses.add(image_losses(output, target, loss).nan_to_num(kInfinity, kInfinity));
      const torch::Tensor reconstruction = to_unit_range(output, net->options().output);
      const torch::Tensor mse = image_mse(reconstruction, images);
      errors.add(mse);
      for (std::int64_t i = 0; i < mse.numel(); ++i) psnrs.add(psnr(mse[i].item<double>()));
      ssims.add(image_ssim(reconstruction, images));
    }
  }
  net->train(was_training);
  return {losses.count(), losses.mean(), errors.mean(), psnrs.mean(), ssims.mean()};
}

}  // namespace convae
