#include "convae/evaluation/filters.h"

#include "convae/core/parallel.h"
#include "convae/data/mat.h"
#include "convae/data/pictures.h"
#include "convae/metrics/image_metrics.h"
#include "convae/models/pixels.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>

#include <opencv2/imgproc.hpp>
#ifdef CONVAE_OPENCV_PHOTO
#include <opencv2/photo.hpp>
#endif

#include <algorithm>
#include <stdexcept>

namespace convae {

torch::Tensor gaussian_blur(const torch::Tensor& images, double sigma) {
  const torch::Tensor rows = images.cpu().permute({0, 2, 3, 1}).contiguous();
  const torch::Tensor blurred = at::empty_like(rows);
  parallel_for_each(rows.size(0), [&](std::int64_t i) {
    cv::Mat to = mat_view(blurred[i]);
    cv::GaussianBlur(mat_view(rows[i]), to, {}, sigma);
  });
  return blurred.permute({0, 3, 1, 2}).clamp_(0, 1);
}

#ifdef CONVAE_OPENCV_PHOTO
const bool kHasNonLocalMeans = true;

torch::Tensor non_local_means(const torch::Tensor& images, double h) {
  const auto strength = static_cast<float>(h);
  std::vector<torch::Tensor> filtered(static_cast<std::size_t>(images.size(0)));
  parallel_for_each(images.size(0), [&](std::int64_t i) {
    const cv::Mat image = mat_from_image(to_uint8(images[i]));
    cv::Mat found;
    if (image.channels() == 1) {
      cv::fastNlMeansDenoising(image, found, strength);
    } else {
      cv::fastNlMeansDenoisingColored(image, found, strength, /*hColor=*/strength);
    }
    filtered[static_cast<std::size_t>(i)] = image_from_mat(found);
  });
  return to_float(at::stack(filtered), at::kCPU);
}
#else
const bool kHasNonLocalMeans = false;

torch::Tensor non_local_means(const torch::Tensor& /*images*/, double /*h*/) {
  throw std::logic_error("built without OpenCV's module photo");
}
#endif

void Trial::keep_middle() {
  constexpr std::int64_t kSide = 128;
  for (torch::Tensor* images : {&image, &shown}) {
    for (const std::int64_t axis : {2, 3}) {
      const std::int64_t side = std::min(images->size(axis), kSide);
      *images = images->narrow(axis, (images->size(axis) - side) / 2, side);
    }
    *images = images->clone();  // so that the rest can go
  }
}

double best_strength(Filter filter, std::span<const double> strengths,
                     const std::vector<Trial>& trials, const Callbacks& callbacks) {
  std::vector<double> errors(strengths.size());
  for (std::size_t i = 0; i < trials.size(); ++i) {
    callbacks.show("choose a filter", static_cast<std::int64_t>(i), std::ssize(trials));
    callbacks.stop_if_asked(static_cast<std::int64_t>(i), std::ssize(trials));
    for (std::size_t s = 0; s < strengths.size(); ++s) {
      errors[s] += image_mse(filter(trials[i].shown, strengths[s]), trials[i].image).item<double>();
    }
  }
  return strengths[static_cast<std::size_t>(std::ranges::min_element(errors) - errors.begin())];
}

}  // namespace convae
