#include "convae/training/sample_pictures.h"

#include "convae/data/pictures.h"
#include "convae/metrics/image_metrics.h"
#include "convae/training/validation.h"

#include <optional>

namespace convae {
namespace {

/// As validation sees it: with the crop in its middle.
std::optional<torch::Tensor> load_cropped(ImageDataset& source, std::int64_t index) {
  std::optional<torch::Tensor> image = source.load(index);
  const Size crop = source.options().crop;
  if (!image || crop.h == 0) return image;
  return crop_image(*image, crop, (image->size(1) - crop.h) / 2, (image->size(2) - crop.w) / 2);
}

}  // namespace

SamplePicture sample_picture(Autoencoder& net, ImageDataset& source,
                             const std::vector<std::int64_t>& indices, std::int64_t count,
                             const CorruptionRule& rule, torch::Device device) {
  const torch::NoGradGuard no_grad;
  net->eval();
  std::vector<torch::Tensor> pictures;
  SamplePicture sample;
  for (const std::int64_t index : indices) {
    if (std::ssize(pictures) == count) break;
    const auto image = load_cropped(source, index);
    if (!image) continue;
    const torch::Tensor clean = to_float(image->unsqueeze(0), device);
    const torch::Tensor input = corrupt(clean, rule, {index});
    const torch::Tensor made = reconstruct_images(net, input);
    const auto mse = image_mse(made, clean)[0].item<double>();
    sample.images.push_back({source.entry(index).file.name, source.image_size(index), mse,
                             psnr(mse), image_ssim(made, clean)[0].item<double>()});
    pictures.push_back(
        comparison_picture(input[0].cpu(), made[0].cpu(), clean[0].cpu(), kMaxSampleSide));
  }
  sample.picture = stack_pictures(pictures);
  return sample;
}

}  // namespace convae
