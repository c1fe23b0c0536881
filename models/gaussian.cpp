#include "convae/models/gaussian.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/replication_pad2d.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <array>
#include <cmath>

namespace convae {
namespace {

/// Blurs columns. A row's pixels are taken for channels, each with a convolution of its own: with a
/// single channel it takes four times as long.
torch::Tensor blurred_down(const torch::Tensor& images, const torch::Tensor& kernel) {
  const std::int64_t radius = kernel.size(3) / 2, columns = images.size(3);
  const torch::Tensor padded = at::replication_pad2d(images, {0, 0, radius, radius}).contiguous();
  const torch::Tensor rows = padded.view({-1, padded.size(2), 1, columns});
  const torch::Tensor kernels = kernel.view({1, 1, -1, 1}).expand({columns, 1, -1, 1});
  const std::array<std::int64_t, 2> one = {1, 1}, none = {0, 0};
  return at::conv2d(rows.permute({0, 3, 1, 2}), kernels, {}, one, none, one, /*groups=*/columns)
      .permute({0, 3, 2, 1})
      .reshape(images.sizes());
}

}  // namespace

torch::Tensor gaussian_kernel(double sigma) {
  const auto radius = static_cast<std::int64_t>(std::ceil(3 * sigma));
  const torch::Tensor at = at::arange(-radius, radius + 1, at::kFloat);
  const torch::Tensor weights = (-at.square() / (2 * sigma * sigma)).exp();
  return (weights / weights.sum()).view({1, 1, 1, -1});
}

torch::Tensor blurred(const torch::Tensor& images, const torch::Tensor& kernel) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return blurred_down(blurred_down(images, kernel).transpose(2, 3), kernel).transpose(2, 3);
}

}  // namespace convae
