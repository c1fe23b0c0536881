#include "convae/models/kernels/subpixel.h"

#include "convae/core/parallel.h"
#include "convae/models/kernels/flat_maps.h"

#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace convae {
namespace {

constexpr std::int64_t kMostChannels = 4;
constexpr std::int64_t kMostWaste = 3;  // taps computed for one that is needed

/// Along one axis, which inputs make which outputs: o = i·stride - padding + k·dilation.
class Taps {
public:
  /// Of the outputs that begin at an input, number `phase` takes the input `offset` further on with
  /// weight `kernel`.
  struct Tap {
    std::int64_t phase, kernel, offset;
  };

  explicit Taps(const Axis& axis) {
    for (std::int64_t phase = 0; phase < axis.stride; ++phase) {
      for (std::int64_t k = 0; k < axis.kernel; ++k) {
        const std::int64_t way = phase + axis.padding - k * axis.dilation;
        if (way % axis.stride == 0) taps_.push_back({phase, k, way / axis.stride});
      }
    }
    const auto [least, most] = std::minmax_element(
        taps_.begin(), taps_.end(), [](const Tap& a, const Tap& b) { return a.offset < b.offset; });
    first_ = least->offset;
    count_ = most->offset - first_ + 1;
  }

  const std::vector<Tap>& all() const { return taps_; }
  std::int64_t first() const { return first_; }  ///< least offset
  std::int64_t count() const { return count_; }  ///< length of the convolution's kernel

  /// Zeros on either side of `in` inputs, for `groups` outputs of the convolution.
  std::int64_t padding(std::int64_t in, std::int64_t groups) const {
    return std::max({std::int64_t{0}, -first_, groups - in + first_ + count_ - 1});
  }

private:
  std::vector<Tap> taps_;
  std::int64_t first_ = 0, count_ = 0;
};

struct PlaneTaps {
  Taps rows, columns;
  explicit PlaneTaps(const LevelSpec& level)
      : rows(level.vertical()), columns(level.horizontal()) {}
};

/// (C, channels, kernel) → (stride.h · stride.w · channels, C, rows, columns).
torch::Tensor convolution_weight(const torch::Tensor& weight, const PlaneTaps& taps, Size stride) {
  torch::Tensor result = at::zeros(
      {stride.h, stride.w, weight.size(1), weight.size(0), taps.rows.count(), taps.columns.count()},
      weight.options());
  const auto from = weight.accessor<float, 4>();
  auto to = result.accessor<float, 6>();
  for (const Taps::Tap& row : taps.rows.all()) {
    for (const Taps::Tap& column : taps.columns.all()) {
      auto pixel = to[row.phase][column.phase];
      const std::int64_t y = row.offset - taps.rows.first();
      const std::int64_t x = column.offset - taps.columns.first();
      for (std::int64_t channel = 0; channel < weight.size(1); ++channel) {
        for (std::int64_t in = 0; in < weight.size(0); ++in) {
          pixel[channel][in][y][x] = from[in][channel][row.kernel][column.kernel];
        }
      }
    }
  }
  return result.flatten(0, 2).contiguous(at::MemoryFormat::ChannelsLast);
}

/// Copies runs of `length` bytes, which begin `step` apart, to one place after the other: `count`
/// bytes. Inline, so that a known length takes a few moves instead of a call.
[[gnu::always_inline]] inline void join_runs(const std::byte* from, std::int64_t length,
                                             std::int64_t step, std::byte* to, std::int64_t count) {
  for (; count >= length; count -= length, from += step, to += length) {
    std::memcpy(to, from, length);
  }
  std::memcpy(to, from, count);
}

/// (N, stride.h · stride.w · channels, h, w) → (N, channels, out), both channels-last. By hand:
/// LibTorch copies so short runs at half the speed.
torch::Tensor side_by_side(const torch::Tensor& groups, Size stride, Size out) {
  const std::int64_t channels = groups.size(1) / (stride.h * stride.w);
  torch::Tensor result = at::empty({groups.size(0), channels, out.h, out.w},
                                   groups.options().memory_format(at::MemoryFormat::ChannelsLast));
  const std::int64_t size = groups.element_size();
  const auto* first = static_cast<const std::byte*>(groups.const_data_ptr());
  auto* const rows = static_cast<std::byte*>(result.mutable_data_ptr());
  const std::int64_t length = stride.w * channels * size, step = groups.stride(3) * size;
  const std::int64_t row_length = out.w * channels * size;
  parallel_for_each(groups.size(0) * out.h, [&](std::int64_t row) {
    const std::int64_t image = row / out.h, y = row % out.h;
    const std::byte* from = first +
                            (image * groups.stride(0) + y / stride.h * groups.stride(2)) * size +
                            y % stride.h * length;
    std::byte* to = rows + row * row_length;
    switch (length) {  // with a stride of 2:
      case 4:          // grey in bfloat16
        return join_runs(from, 4, step, to, row_length);
      case 8:  // grey
        return join_runs(from, 8, step, to, row_length);
      case 12:  // colours in bfloat16
        return join_runs(from, 12, step, to, row_length);
      case 24:  // colours
        return join_runs(from, 24, step, to, row_length);
      default: return join_runs(from, length, step, to, row_length);
    }
  });
  return result;
}

torch::Tensor forward_only(const torch::Tensor& x, const torch::Tensor& weight,
                           const torch::Tensor& bias, const LevelSpec& level, Size output_padding) {
  const PlaneTaps taps(level);
  const Size out{level.vertical().conv_transpose_length(x.size(2), output_padding.h),
                 level.horizontal().conv_transpose_length(x.size(3), output_padding.w)};
  const Size groups{(out.h + level.stride.h - 1) / level.stride.h,
                    (out.w + level.stride.w - 1) / level.stride.w};
  const Size padding{taps.rows.padding(x.size(2), groups.h),
                     taps.columns.padding(x.size(3), groups.w)};
  const torch::Tensor convolved =
      at::conv2d(x, convolution_weight(weight, taps, level.stride),
                 bias.defined() ? bias.repeat({level.stride.h * level.stride.w}) : bias,
                 /*stride=*/1, per_axis(padding))
          .contiguous(at::MemoryFormat::ChannelsLast);
  return side_by_side(convolved.narrow(2, padding.h + taps.rows.first(), groups.h)
                          .narrow(3, padding.w + taps.columns.first(), groups.w),
                      level.stride, out);
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Gradients are LibTorch's own: they are convolutions from few channels, which it is good at.
class SubpixelConvTranspose : public torch::autograd::Function<SubpixelConvTranspose> {
public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight,
                               const std::optional<torch::Tensor>& bias, const LevelSpec& level,
                               Size output_padding) {
    // The gradients are computed outside of autocast, in the type that it chose here.
    const at::ScalarType type = computed_type(x);
    context->save_for_backward({x.to(type), weight.to(type)});
    context->saved_data["stride"] = per_axis(level.stride);
    context->saved_data["padding"] = per_axis(level.padding);
    context->saved_data["dilation"] = per_axis(level.dilation);
    context->saved_data["output_padding"] = per_axis(output_padding);
    context->saved_data["bias"] = bias.has_value();
    return forward_only(x, weight, bias.value_or(torch::Tensor()), level, output_padding);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto numbers = [&](const char* name) { return context->saved_data[name].toIntVector(); };
    const bool with_bias = context->saved_data["bias"].toBool();
    const std::int64_t channels[] = {saved[1].size(1)};
    auto [dx, dweight, dbias] = at::convolution_backward(
        gradients[0], saved[0], saved[1],
        with_bias ? at::OptionalIntArrayRef(channels) : at::OptionalIntArrayRef(),
        numbers("stride"), numbers("padding"), numbers("dilation"), /*transposed=*/true,
        numbers("output_padding"), /*groups=*/1,
        {context->needs_input_grad(0), context->needs_input_grad(1), with_bias});
    return {dx, dweight, dbias, {}, {}};
  }
};

}  // namespace

bool suits_subpixels(const torch::Tensor& x, std::int64_t channels, const LevelSpec& level) {
  const bool is_known = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  if (!x.device().is_cpu() || !is_known || x.numel() == 0) return false;
  if (channels > kMostChannels || level.stride.h * level.stride.w == 1) return false;
  const PlaneTaps taps(level);
  const std::int64_t computed =
      taps.rows.count() * taps.columns.count() * level.stride.h * level.stride.w;
  return computed <= kMostWaste * level.kernel.h * level.kernel.w;
}

torch::Tensor subpixel_conv_transpose(const torch::Tensor& x, const torch::Tensor& weight,
                                      const torch::Tensor& bias, const LevelSpec& level,
                                      Size output_padding) {
  if (!at::GradMode::is_enabled()) return forward_only(x, weight, bias, level, output_padding);
  return SubpixelConvTranspose::apply(
      x, weight, bias.defined() ? std::optional(bias) : std::nullopt, level, output_padding);
}

}  // namespace convae
