#include "convae/models/kernels/product_gradient.h"

#include "convae/core/parallel.h"
#include "convae/models/kernels/flat_maps.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>

namespace convae {
namespace {

constexpr std::int64_t kFewestChannels = 32;
constexpr std::int64_t kPatchBytes = 1 << 20;  // of a part: they fit a core's cache

/// The rows of an inner map (the smaller of a convolution's two), and what the kernel sees of the
/// outer map at each of their pixels: kernel.h · kernel.w · C values.
class Patches {
public:
  Patches(const torch::Tensor& outer, const LevelSpec& level, Size inner)
      : outer_(outer), level_(level), inner_(inner) {}

  std::int64_t columns() const { return level_.kernel.h * level_.kernel.w * outer_.size(1); }

  /// Of rows [begin, end) of all images' inner rows: (pixels, columns).
  torch::Tensor of_rows(std::int64_t begin, std::int64_t end) const {
    torch::Tensor patches = at::empty({(end - begin) * inner_.w, columns()}, outer_.options());
    auto* to = static_cast<std::byte*>(patches.mutable_data_ptr());
    for (std::int64_t row = begin; row < end; ++row) {
      const std::byte* image = first_ + row / inner_.h * outer_.stride(0) * size_;
      const std::int64_t top = row % inner_.h * level_.stride.h - level_.padding.h;
      for (std::int64_t x = 0; x < inner_.w; ++x) {
        const std::int64_t left = x * level_.stride.w - level_.padding.w;
        for (std::int64_t k = 0; k < level_.kernel.h; ++k, to += level_.kernel.w * pixel_) {
          copy_run(image, top + k * level_.dilation.h, left, to);
        }
      }
    }
    return patches;
  }

private:
  /// One row of the kernel, zero outside of the image.
  void copy_run(const std::byte* image, std::int64_t y, std::int64_t left, std::byte* to) const {
    const std::int64_t step = level_.dilation.w;
    const std::int64_t count = level_.kernel.w;
    const std::byte* row = image + y * outer_.stride(2) * size_;
    const bool is_inside = y >= 0 && y < outer_.size(2);
    if (is_inside && step == 1 && left >= 0 && left + count <= outer_.size(3)) {
      std::memcpy(to, row + left * pixel_, count * pixel_);
      return;
    }
    for (std::int64_t k = 0; k < count; ++k, to += pixel_) {
      const std::int64_t x = left + k * step;
      if (is_inside && x >= 0 && x < outer_.size(3)) {
        std::memcpy(to, row + x * pixel_, pixel_);
      } else {
        std::memset(to, 0, pixel_);
      }
    }
  }

  torch::Tensor outer_;
  LevelSpec level_;
  Size inner_;
  std::int64_t size_ = outer_.element_size();
  std::int64_t pixel_ = outer_.size(1) * size_;  // bytes
  const std::byte* first_ = static_cast<const std::byte*>(outer_.const_data_ptr());
};

/// (parts, count) → float (count), added in order.
torch::Tensor sum_of(const torch::Tensor& parts) {
  constexpr std::int64_t kBlock = 1 << 13;
  const std::int64_t count = parts.size(1);
  torch::Tensor sum = at::empty({count}, parts.options().dtype(at::kFloat));
  with_type(parts, [&]<typename T>(T) {
    const auto& kernel = kernels_of_this_processor().of<T>();
    parallel_for_each((count + kBlock - 1) / kBlock, [&](std::int64_t block) {
      const std::int64_t begin = block * kBlock, length = std::min(kBlock, count - begin);
      float* const to = values<float>(sum) + begin;
      kernel.to_floats(values<T>(parts) + begin, length, to);
      for (std::int64_t i = 1; i < parts.size(0); ++i) {
        kernel.add_to_floats(values<T>(parts) + i * count + begin, length, to);
      }
    });
  });
  return sum;
}

/// (N, C, H, W) and (N, I, h, w), channels-last → (I, C, kernel), float, channels-last.
torch::Tensor weight_gradient(const torch::Tensor& outer, const torch::Tensor& inner,
                              const LevelSpec& level) {
  const Size map{inner.size(2), inner.size(3)};
  const std::int64_t rows = inner.size(0) * map.h, channels = inner.size(1);
  const Patches patches(outer, level, map);
  const std::int64_t bytes = rows * map.w * patches.columns() * outer.element_size();
  const std::int64_t count = std::min(std::max<std::int64_t>(bytes / kPatchBytes, 2), rows);
  const torch::Tensor gradients = inner.permute({0, 2, 3, 1}).reshape({rows * map.w, channels});
  const torch::Tensor parts = at::empty({count, channels, patches.columns()}, outer.options());
  parallel_for_each(count, [&](std::int64_t i) {
    compute_on_this_thread_alone();  // until the end of the parallel region
    const at::AutoDispatchBelowADInplaceOrView no_autograd;
    const std::int64_t begin = rows * i / count, end = rows * (i + 1) / count;
    torch::Tensor part = parts.select(0, i);
    at::mm_out(part, gradients.narrow(0, begin * map.w, (end - begin) * map.w).t(),
               patches.of_rows(begin, end));
  });
  return sum_of(parts.flatten(1))
      .view({channels, level.kernel.h, level.kernel.w, outer.size(1)})
      .permute({0, 3, 1, 2});
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class ConvolutionWithProducts : public torch::autograd::Function<ConvolutionWithProducts> {
public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight,
                               const std::optional<torch::Tensor>& bias, const LevelSpec& level,
                               bool transposed, Size output_padding) {
    // The gradients are computed outside of autocast, in the type that it chose here.
    const at::ScalarType type = computed_type(x);
    const torch::Tensor input = x.to(type), factors = weight.to(type);
    context->save_for_backward({input, factors});
    auto record = c10::make_intrusive<Record>();
    record->level = level;
    record->transposed = transposed;
    record->output_padding = output_padding;
    record->has_bias = bias.has_value();
    context->saved_data["record"] = c10::IValue::make_capsule(std::move(record));
    return at::convolution(input, factors, bias ? bias->to(type) : torch::Tensor(),
                           per_axis(level.stride), per_axis(level.padding),
                           per_axis(level.dilation), transposed, per_axis(output_padding),
                           /*groups=*/1);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto capsule = context->saved_data["record"].toCapsule();
    const auto& record = static_cast<const Record&>(*capsule);
    const LevelSpec& level = record.level;
    const torch::Tensor dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    torch::Tensor dx, dweight, dbias;
    if (context->needs_input_grad(0)) {
      dx = std::get<0>(at::convolution_backward(dy, saved[0], saved[1], /*bias_sizes=*/{},
                                                per_axis(level.stride), per_axis(level.padding),
                                                per_axis(level.dilation), record.transposed,
                                                per_axis(record.output_padding),
                                                /*groups=*/1, {true, false, false}));
    }
    if (context->needs_input_grad(1)) {
      const torch::Tensor x = saved[0].contiguous(at::MemoryFormat::ChannelsLast);
      dweight = record.transposed ? weight_gradient(dy, x, level) : weight_gradient(x, dy, level);
    }
    // Without one, LibTorch has no third input to ask about.
    if (record.has_bias && context->needs_input_grad(2)) {
      dbias = dy.sum({0, 2, 3}, /*keepdim=*/false, at::kFloat);
    }
    return {dx, dweight, dbias, {}, {}, {}};
  }

private:
  struct Record : torch::CustomClassHolder {
    LevelSpec level;
    Size output_padding;
    bool transposed = false, has_bias = false;
  };
};

/// Where products were measured and won. With AMX, gathering larger maps takes what they save.
bool products_win(const torch::Tensor& x) {
#if defined(__x86_64__)
  constexpr std::int64_t kMostPixelsWithAmx = 32 * 32;
  return __builtin_cpu_supports("avx512bf16") &&
         (!__builtin_cpu_supports("amx-bf16") || x.size(2) * x.size(3) <= kMostPixelsWithAmx);
#else
  return false;
#endif
}

}  // namespace

bool suits_products(const torch::Tensor& x, const torch::Tensor& weight) {
  return x.is_cpu() && x.numel() > 0 && at::GradMode::is_enabled() &&
         weight.size(1) >= kFewestChannels && computed_type(x) == at::kBFloat16 && products_win(x);
}

torch::Tensor convolution_with_products(const torch::Tensor& x, const torch::Tensor& weight,
                                        const torch::Tensor& bias, const LevelSpec& level,
                                        bool transposed, Size output_padding) {
  const std::optional<torch::Tensor> own = bias.defined() ? std::optional(bias) : std::nullopt;
  return ConvolutionWithProducts::apply(x, weight, own, level, transposed, output_padding);
}

}  // namespace convae
