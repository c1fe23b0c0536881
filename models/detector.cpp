#include "convae/models/detector.h"

#include "convae/core/parallel.h"
#include "convae/models/gaussian.h"
#include "convae/models/pixels.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/pixel_shuffle.h>
#include <ATen/ops/pixel_unshuffle.h>
#include <ATen/ops/sigmoid.h>

#include <algorithm>
#include <array>

namespace convae {
namespace {

// Few pixels are anomalous: the first guess of a fresh detector is 5 %.
constexpr double kFirstLogit = -3;

/// What it sees of a value of the image, with those of the reconstruction and the blur there.
std::array<float, 4> seen_at(float image, float reconstruction, float blurred) {
  constexpr auto kGain = static_cast<float>(DetectorImpl::kDifferenceGain);
  return {image - 0.5F, reconstruction - 0.5F, (image - reconstruction) * kGain,
          (image - blurred) * kGain};
}

/// what_it_sees() on a CPU in one pass: LibTorch takes nine, and moves each pixel by itself.
torch::Tensor seen_in_one_pass(const torch::Tensor& image, const torch::Tensor& reconstruction,
                               const torch::Tensor& blurred) {
  const auto channels = image.size(1), h = image.size(2), w = image.size(3);
  const auto half_h = (h + 1) / 2, half_w = (w + 1) / 2;
  const torch::Tensor seen =
      at::empty({image.size(0), 16 * channels, half_h, half_w},
                image.options().memory_format(at::MemoryFormat::ChannelsLast));
  auto* const values = seen.mutable_data_ptr<float>();
  const auto x = image.accessor<float, 4>(), made = reconstruction.accessor<float, 4>(),
             smooth = blurred.accessor<float, 4>();
  parallel_for_each(image.size(0) * half_h, [&](std::int64_t row) {
    const std::int64_t i = row / half_h;
    const std::int64_t top = row % half_h * 2;
    for (std::int64_t line = 0; line < 2 * channels; ++line) {
      const std::int64_t c = line / 2, y = std::min(top + line % 2, h - 1);
      const auto image_row = x[i][c][y], made_row = made[i][c][y], smooth_row = smooth[i][c][y];
      for (std::int64_t across = 0; across < 2 * half_w; ++across) {
        const std::int64_t from = std::min(across, w - 1);
        float* const to =
            values + (row * half_w + across / 2) * 16 * channels + 2 * line + across % 2;
        const auto found = seen_at(image_row[from], made_row[from], smooth_row[from]);
        for (std::int64_t k = 0; k < 4; ++k) {
          to[k * 4 * channels] = found[static_cast<std::size_t>(k)];
        }
      }
    }
  });
  return seen;
}

/// (N, C, H, W) → (N, 16·C, ⌈H/2⌉, ⌈W/2⌉).
torch::Tensor what_it_sees(const torch::Tensor& image, const torch::Tensor& reconstruction,
                           const torch::Tensor& gaussian) {
  const torch::Tensor smooth = blurred(image, gaussian.to(image.device()));
  if (image.is_cpu()) {
    return seen_in_one_pass(image.to(at::kFloat), reconstruction.to(at::kFloat), smooth);
  }
  constexpr double kGain = DetectorImpl::kDifferenceGain;
  const torch::Tensor x = at::cat({image - 0.5, reconstruction - 0.5,
                                   (image - reconstruction) * kGain, (image - smooth) * kGain},
                                  /*dim=*/1);
  return at::pixel_unshuffle(with_whole_blocks(x, {2, 2}), 2)
      .contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace

DetectorImpl::DetectorImpl(const ModelOptions& options)
    : layers_(options.detector_layers()), gaussian_(gaussian_kernel(kBlurSigma)) {
  for (const DetectorLayer& layer : layers_) {
    const bool grows = layer.kind == DetectorLayer::Kind::up;
    const bool activated = layer.kind != DetectorLayer::Kind::last;
    blocks_.emplace_back(register_module(
        layer.name(), Block(grows ? BlockImpl::Kind::conv_transpose : BlockImpl::Kind::conv,
                            layer.in, layer.spec(), options, activated)));
  }
  const torch::NoGradGuard no_grad;
  blocks_.back()->conv_bias().fill_(kFirstLogit);
}

torch::Tensor DetectorImpl::forward(const torch::Tensor& images,
                                    const torch::Tensor& reconstructions) {
  const torch::Tensor map = logits({images}, {reconstructions})[0];
  return is_training() ? map : at::sigmoid(map);
}

Maps DetectorImpl::logits(const Maps& images, const Maps& reconstructions) {
  Maps maps;
  for (std::size_t i = 0; i < images.size(); ++i) {
    TORCH_CHECK(images[i].sizes() == reconstructions[i].sizes(),
                "the detector takes images and their reconstructions, but got ", images[i].sizes(),
                " and ", reconstructions[i].sizes());
    maps.push_back(what_it_sees(images[i].detach(), reconstructions[i].detach(), gaussian_));
  }
  std::vector<Maps> skipped;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto [kind, level, in, out] = layers_[i];
    if (kind == DetectorLayer::Kind::down && level > 0) skipped.push_back(maps);
    std::vector<Size> sizes = sizes_of(images);
    for (Size& size : sizes) size = detector_map(size, level);
    maps = blocks_[i]->forward(maps, sizes);
    if (kind != DetectorLayer::Kind::up) continue;
    for (std::size_t k = 0; k < maps.size(); ++k) {
      maps[k] = at::cat({maps[k], skipped[level][k]}, /*dim=*/1);
    }
  }
  for (std::size_t i = 0; i < maps.size(); ++i) {
    // In float: sums of many pixels' losses are taken of it.
    maps[i] = at::pixel_shuffle(maps[i].to(at::kFloat), 2)
                  .narrow(2, 0, images[i].size(2))
                  .narrow(3, 0, images[i].size(3));
  }
  return maps;
}

}  // namespace convae
