#pragma once

#include "convae/core/api.h"
#include "convae/core/tensor.h"

namespace cv {
class Mat;
}

/// OpenCV's images, for programs that use them; those include <opencv2/core.hpp> themselves.
namespace CONVAE_API convae {

/// Copies grey or BGR, 8 or 16 bits a sample → (C, H, W) uint8 or uint16, RGB, stored
/// channels-last. Throws std::invalid_argument for others: alpha needs a background, floats have no
/// known range.
torch::Tensor image_from_mat(const cv::Mat& mat);

/// The other way, from any strides. Throws std::invalid_argument unless `image` is (1 or 3, H, W)
/// uint8 or uint16.
cv::Mat mat_from_image(const torch::Tensor& image);

/// (H, W, C) uint8, uint16 or float32, contiguous, as a cv::Mat over the same memory, in RGB order.
cv::Mat mat_view(const torch::Tensor& pixels);

}  // namespace convae
