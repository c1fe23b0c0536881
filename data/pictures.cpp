#include "convae/data/pictures.h"

#include "convae/data/image_io.h"
#include "convae/data/mat.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/full.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>

namespace convae {
namespace {

constexpr std::int64_t kEnlargeBelow = 112;  // whole factors up to this side

torch::Tensor to_rgb(const torch::Tensor& image) {
  return image.size(0) == 1 ? image.expand({3, image.size(1), image.size(2)}) : image;
}

torch::Tensor show(const torch::Tensor& image, Size shown) {
  const std::int64_t factor = shown.h / image.size(1);
  if (factor > 1) return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2);
  if (shown.h == image.size(1) && shown.w == image.size(2)) return image;
  return resize_image(image, shown.h, shown.w);
}

torch::Tensor white(std::int64_t height, std::int64_t width) {
  return at::full({3, height, width}, 255, at::kByte);
}

}  // namespace

torch::Tensor to_uint8(const torch::Tensor& image) {
  return image.mul(255).round().clamp(0, 255).nan_to_num(0).to(at::kByte).cpu();
}

torch::Tensor to_uint16(const torch::Tensor& image) {
  return image.mul(65535).round().clamp(0, 65535).nan_to_num(0).to(at::kInt).to(at::kUInt16).cpu();
}

torch::Tensor coloured(const torch::Tensor& values, ColourMap map) {
  const cv::Mat grey = mat_from_image(to_uint8(values).unsqueeze(0));
  cv::Mat bgr;
  cv::applyColorMap(grey, bgr, map == ColourMap::inferno ? cv::COLORMAP_INFERNO : cv::COLORMAP_HOT);
  return image_from_mat(bgr);
}

torch::Tensor error_picture(const torch::Tensor& image, const torch::Tensor& reconstruction) {
  return coloured((image - reconstruction).abs().mean(0) / kFullError, ColourMap::inferno);
}

Size shown_size(Size own, std::int64_t max_side) {
  const std::int64_t side = std::max(own.h, own.w);
  if (side <= max_side) {
    const std::int64_t factor = std::max<std::int64_t>(1, kEnlargeBelow / side);
    return {own.h * factor, own.w * factor};
  }
  const auto shrunk = [&](std::int64_t extent) {
    return std::max<std::int64_t>(1, (extent * max_side + side / 2) / side);
  };
  return {shrunk(own.h), shrunk(own.w)};
}

torch::Tensor at_shown_size(const torch::Tensor& picture, std::int64_t max_side) {
  return show(picture, shown_size({picture.size(1), picture.size(2)}, max_side));
}

torch::Tensor comparison_picture(const torch::Tensor& input, const torch::Tensor& reconstruction,
                                 const torch::Tensor& target, std::int64_t max_side) {
  const Size shown = shown_size({input.size(1), input.size(2)}, max_side);
  return row_of_pictures({show(to_uint8(input), shown), show(to_uint8(reconstruction), shown),
                          show(error_picture(target, reconstruction), shown)});
}

torch::Tensor row_of_pictures(const std::vector<torch::Tensor>& pictures) {
  std::vector<torch::Tensor> parts;
  for (const torch::Tensor& picture : pictures) {
    if (!parts.empty()) parts.push_back(white(picture.size(1), kPictureGap));
    parts.push_back(to_rgb(picture));
  }
  return at::cat(parts, /*dim=*/2);
}

torch::Tensor stack_pictures(const std::vector<torch::Tensor>& pictures) {
  if (pictures.empty()) return white(1, 1);
  std::int64_t width = 0;
  for (const torch::Tensor& picture : pictures) width = std::max(width, picture.size(2));
  std::vector<torch::Tensor> rows;
  for (const torch::Tensor& picture : pictures) {
    if (!rows.empty()) rows.push_back(white(kPictureGap, width));
    rows.push_back(at::constant_pad_nd(picture, {0, width - picture.size(2)}, 255));
  }
  return at::cat(rows, /*dim=*/1);
}

std::vector<std::array<torch::Tensor, 3>> take_apart(const torch::Tensor& picture,
                                                     const std::vector<Size>& shown) {
  std::int64_t height = -kPictureGap;
  std::int64_t width = 0;
  for (const Size& size : shown) {
    height += size.h + kPictureGap;
    width = std::max(width, 3 * size.w + 2 * kPictureGap);
  }
  if (picture.size(1) != height || picture.size(2) != width) return {};
  std::vector<std::array<torch::Tensor, 3>> rows;
  std::int64_t top = 0;
  for (const Size& size : shown) {
    const torch::Tensor row = picture.narrow(1, top, size.h);
    const auto part = [&](std::int64_t place) {
      return row.narrow(2, place * (size.w + kPictureGap), size.w);
    };
    rows.push_back({part(0), part(1), part(2)});
    top += size.h + kPictureGap;
  }
  return rows;
}

}  // namespace convae
