#include "training/pictures.h"

#include <opencv2/imgproc.hpp>

#include <algorithm>

namespace convae {
namespace {

constexpr std::int64_t kGap = 4;             // white pixels between pictures
constexpr std::int64_t kEnlargeBelow = 112;  // whole factors up to this side

torch::Tensor to_rgb(const torch::Tensor& image) {
  return image.size(0) == 1 ? image.expand({3, image.size(1), image.size(2)}) : image;
}

torch::Tensor white(std::int64_t height, std::int64_t width) {
  return torch::full({3, height, width}, 255, torch::kUInt8);
}

}  // namespace

torch::Tensor to_uint8(const torch::Tensor& image) {
  return image.mul(255).round().clamp(0, 255).nan_to_num(0).to(torch::kUInt8).cpu();
}

torch::Tensor to_uint16(const torch::Tensor& image) {
  return image.mul(65535)
      .round()
      .clamp(0, 65535)
      .nan_to_num(0)
      .to(torch::kInt)
      .to(torch::kUInt16)
      .cpu();
}

torch::Tensor error_picture(const torch::Tensor& image, const torch::Tensor& reconstruction) {
  const torch::Tensor error =
      to_uint8((image - reconstruction).abs().mean(0) / kFullError).contiguous();
  const cv::Mat grey(static_cast<int>(error.size(0)), static_cast<int>(error.size(1)), CV_8UC1,
                     error.data_ptr());
  cv::Mat bgr;
  cv::applyColorMap(grey, bgr, cv::COLORMAP_INFERNO);
  return torch::from_blob(bgr.data, {bgr.rows, bgr.cols, 3}, torch::kUInt8)
      .flip({2})  // OpenCV's colour maps are BGR
      .permute({2, 0, 1})
      .clone();
}

torch::Tensor enlarge_small(const torch::Tensor& picture) {
  const std::int64_t factor = kEnlargeBelow / std::max(picture.size(1), picture.size(2));
  if (factor <= 1) return picture;
  return picture.repeat_interleave(factor, 1).repeat_interleave(factor, 2);
}

torch::Tensor comparison_picture(const torch::Tensor& input, const torch::Tensor& reconstruction,
                                 const torch::Tensor& target) {
  return row_of_pictures({enlarge_small(to_uint8(input)), enlarge_small(to_uint8(reconstruction)),
                          enlarge_small(error_picture(target, reconstruction))});
}

torch::Tensor row_of_pictures(const std::vector<torch::Tensor>& pictures) {
  std::vector<torch::Tensor> parts;
  for (const torch::Tensor& picture : pictures) {
    if (!parts.empty()) parts.push_back(white(picture.size(1), kGap));
    parts.push_back(to_rgb(picture));
  }
  return torch::cat(parts, /*dim=*/2);
}

torch::Tensor stack_pictures(const std::vector<torch::Tensor>& pictures) {
  std::int64_t height = -kGap;
  std::int64_t width = 1;
  for (const torch::Tensor& picture : pictures) {
    height += picture.size(1) + kGap;
    width = std::max(width, picture.size(2));
  }
  torch::Tensor canvas = white(std::max<std::int64_t>(height, 1), width);
  std::int64_t top = 0;
  for (const torch::Tensor& picture : pictures) {
    canvas.narrow(1, top, picture.size(1)).narrow(2, 0, picture.size(2)).copy_(picture);
    top += picture.size(1) + kGap;
  }
  return canvas;
}

}  // namespace convae
