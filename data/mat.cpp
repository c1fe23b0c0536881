#include "convae/data/mat.h"

#include "convae/data/codecs/codecs.h"

#include <ATen/ops/empty.h>

#include <opencv2/imgproc.hpp>

#include <stdexcept>
#include <string>

namespace convae {
cv::Mat mat_view(const torch::Tensor& pixels) {
  const int depth = pixels.is_floating_point()            ? CV_32F
                    : pixels.scalar_type() == at::kUInt16 ? CV_16U
                                                          : CV_8U;
  return {static_cast<int>(pixels.size(0)), static_cast<int>(pixels.size(1)),
          CV_MAKETYPE(depth, static_cast<int>(pixels.size(2))), pixels.data_ptr()};
}

torch::Tensor image_from_mat(const cv::Mat& mat) {
  const int channels = mat.channels();
  const bool has_type = mat.depth() == CV_8U || mat.depth() == CV_16U;
  if (mat.dims != 2 || mat.empty() || !has_type || (channels != 1 && channels != 3)) {
    throw std::invalid_argument(
        "an image is a cv::Mat of two dimensions with 1 or 3 channels of 8 or 16 bits, not " +
        std::to_string(mat.dims) + " dimensions of " + cv::typeToString(mat.type()));
  }
  const torch::Tensor pixels = at::empty(
      {mat.rows, mat.cols, channels}, at::dtype(mat.depth() == CV_16U ? at::kUInt16 : at::kByte));
  cv::Mat to = mat_view(pixels);
  if (channels == 1) {
    mat.copyTo(to);
  } else {
    cv::cvtColor(mat, to, cv::COLOR_BGR2RGB);
  }
  return pixels.permute({2, 0, 1});
}

cv::Mat mat_from_image(const torch::Tensor& image) {
  codec::check_image(image, "mat_from_image");
  const torch::Tensor pixels = codec::to_rows(image);
  if (pixels.size(2) == 1) return mat_view(pixels).clone();
  cv::Mat mat;
  cv::cvtColor(mat_view(pixels), mat, cv::COLOR_RGB2BGR);
  return mat;
}

}  // namespace convae
