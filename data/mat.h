#pragma once

#include <torch/types.h>

namespace cv {
class Mat;
}

/// OpenCV's images, for programs that have them. Including <opencv2/core.hpp> is left to those.
namespace convae {

/// Grey or BGR, 8 or 16 bits a sample → (C, H, W) uint8 or uint16, RGB, stored channels-last; a
/// copy. Throws std::invalid_argument for others: a picture with alpha has to be put on a ground
/// first, one of float samples has no range that is known.
torch::Tensor image_from_mat(const cv::Mat& mat);

/// The same the other way, from any strides. Throws std::invalid_argument where `image` is not
/// (1 or 3, H, W) uint8 or uint16.
cv::Mat mat_from_image(const torch::Tensor& image);

/// (H, W, C) uint8 or uint16, contiguous, as OpenCV sees it: the same memory, colours in their
/// order.
cv::Mat mat_view(const torch::Tensor& pixels);

}  // namespace convae
