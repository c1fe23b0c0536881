#include "convae/inspection/heat_map.h"

#include "convae/data/pictures.h"
#include "convae/models/pixels.h"

#include <torch/nn/functional/upsampling.h>

namespace convae {
namespace {

constexpr double kMostCover = 0.75;  // of the image, where the map is at its highest

torch::Tensor share_of(const torch::Tensor& map, double full) {
  return (map.to(torch::kFloat) / full).clamp(0, 1);
}

}  // namespace

torch::Tensor resize_map(const torch::Tensor& map, Size size) {
  if (Size{map.size(0), map.size(1)} == size) return map;
  namespace F = torch::nn::functional;
  return F::interpolate(map.unsqueeze(0).unsqueeze(0), F::InterpolateFuncOptions()
                                                           .size(per_axis(size))
                                                           .mode(torch::kBilinear)
                                                           .align_corners(false))
      .view(per_axis(size));
}

torch::Tensor heat_picture(const torch::Tensor& map, double full) {
  return to_uint16(share_of(map, full).unsqueeze(0));
}

torch::Tensor heat_over_image(const torch::Tensor& image, const torch::Tensor& map, double full) {
  const torch::Tensor share = share_of(map, full);
  const torch::Tensor grey = to_float(image.unsqueeze(0), torch::kCPU)[0].mean(0, /*keepdim=*/true);
  // The map's darkest colours would hide dark images: how much shows grows with the map.
  const torch::Tensor cover = share * kMostCover;
  const torch::Tensor colour =
      to_float(coloured(0.25 + 0.5 * share, ColourMap::hot).unsqueeze(0), torch::kCPU)[0];
  return to_uint8(grey * (1 - cover) + colour * cover);
}

}  // namespace convae
