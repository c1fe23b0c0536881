#include "inspection/heat_map.h"

#include "training/evaluation.h"
#include "training/pictures.h"

#include <opencv2/imgproc.hpp>

namespace convae {
namespace {

constexpr double kMostCover = 0.75;  // of the image, where the map is at its highest

/// (H, W) in [0,1] → (3, H, W) in [0,1].
torch::Tensor coloured(const torch::Tensor& share) {
  const torch::Tensor bytes = to_uint8(share).contiguous();
  const cv::Mat grey(static_cast<int>(bytes.size(0)), static_cast<int>(bytes.size(1)), CV_8UC1,
                     bytes.data_ptr());
  cv::Mat bgr;
  cv::applyColorMap(grey, bgr, cv::COLORMAP_HOT);
  return torch::from_blob(bgr.data, {bgr.rows, bgr.cols, 3}, torch::kUInt8)
      .flip({2})  // OpenCV's colour maps are BGR
      .permute({2, 0, 1})
      .to(torch::kFloat)
      .div(255);
}

torch::Tensor share_of(const torch::Tensor& map, double full) {
  return (map.to(torch::kFloat) / full).clamp(0, 1);
}

}  // namespace

torch::Tensor heat_picture(const torch::Tensor& map, double full) {
  return to_uint16(share_of(map, full).unsqueeze(0));
}

torch::Tensor heat_over_image(const torch::Tensor& image, const torch::Tensor& map, double full) {
  const torch::Tensor share = share_of(map, full);
  const torch::Tensor grey = to_float(image.unsqueeze(0), torch::kCPU)[0].mean(0, /*keepdim=*/true);
  // The map's darkest colours would hide dark images: how much shows grows with the map.
  const torch::Tensor cover = share * kMostCover;
  return to_uint8(grey * (1 - cover) + coloured(0.25 + 0.5 * share) * cover);
}

}  // namespace convae
