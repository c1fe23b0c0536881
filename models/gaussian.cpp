#include "convae/models/gaussian.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/replication_pad2d.h>

#include <cmath>

namespace convae {

torch::Tensor gaussian_kernel(double sigma) {
  const auto radius = static_cast<std::int64_t>(std::ceil(3 * sigma));
  const torch::Tensor at = at::arange(-radius, radius + 1, at::kFloat);
  const torch::Tensor weights = (-at.square() / (2 * sigma * sigma)).exp();
  return (weights / weights.sum()).view({1, 1, 1, -1});
}

torch::Tensor blurred(const torch::Tensor& planes, const torch::Tensor& kernel) {
  const std::int64_t radius = kernel.size(3) / 2;
  const torch::Tensor across =
      at::conv2d(at::replication_pad2d(planes, {radius, radius, 0, 0}), kernel);
  return at::conv2d(at::replication_pad2d(across, {0, 0, radius, radius}), kernel.transpose(2, 3));
}

}  // namespace convae
