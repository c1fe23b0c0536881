#include "convae/models/shortcut.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/adaptive_avg_pool1d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>

namespace convae {
namespace {

/// (…, A) → (…, channels)
torch::Tensor averaged(const torch::Tensor& x, std::int64_t channels) {
  const std::int64_t from = x.size(-1);
  if (from == channels) return x;
  if (from % channels == 0) return x.unflatten(-1, {channels, from / channels}).mean(-1);
  if (channels % from == 0) return x.repeat_interleave(channels / from, -1);
  return x.matmul(channel_shares(from, channels).to(x.options()));
}

/// (N, H, W, C), cut at its end or with its edge repeated → (N, size.h, size.w, C).
torch::Tensor fitted(torch::Tensor x, Size size) {
  for (const std::int64_t axis : {1, 2}) {
    const std::int64_t has = x.size(axis), wanted = axis == 1 ? size.h : size.w;
    if (has >= wanted) {
      x = x.narrow(axis, 0, wanted);
    } else {
      x = at::cat({x, x.narrow(axis, has - 1, 1).repeat_interleave(wanted - has, axis)}, axis);
    }
  }
  return x;
}

}  // namespace

torch::Tensor shuffled_down(const torch::Tensor& x, Size stride, std::int64_t channels, Size out) {
  const torch::Tensor pixels =
      fitted(x.permute({0, 2, 3, 1}), {out.h * stride.h, out.w * stride.w})
          .reshape({x.size(0), out.h, stride.h, out.w, stride.w, x.size(1)})
          .permute({0, 1, 3, 5, 2, 4})
          .flatten(3);
  return averaged(pixels, channels).permute({0, 3, 1, 2});
}

torch::Tensor shuffled_up(const torch::Tensor& x, Size stride, std::int64_t channels, Size out) {
  const std::int64_t h = x.size(2), w = x.size(3);
  const torch::Tensor pixels = averaged(x.permute({0, 2, 3, 1}), channels * stride.h * stride.w)
                                   .reshape({x.size(0), h, w, channels, stride.h, stride.w})
                                   .permute({0, 1, 4, 2, 5, 3})
                                   .reshape({x.size(0), h * stride.h, w * stride.w, channels});
  return fitted(pixels, out).permute({0, 3, 1, 2});
}

torch::Tensor channel_shares(std::int64_t from, std::int64_t to) {
  return at::adaptive_avg_pool1d(at::eye(from).unsqueeze(0), to)[0];
}

torch::Tensor added(torch::Tensor y, const torch::Tensor& x) {
  const torch::Tensor summand = x.to(y.scalar_type());
  return at::GradMode::is_enabled() ? y + summand : y.add_(summand);
}

}  // namespace convae
