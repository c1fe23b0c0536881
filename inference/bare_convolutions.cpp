#include "convae/inference/bare_convolutions.h"

#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>

namespace convae::app {

BareConvolutions::BareConvolutions(const ModelOptions& model, std::int64_t images, Size size,
                                   torch::Device device, torch::ScalarType type) {
  const std::vector<LevelSpec> levels = model.levels;
  const Plan plan = plan_sizes(levels, size, model.channels);
  const auto random = [&](std::initializer_list<std::int64_t> shape) {
    return torch::randn(shape, torch::TensorOptions(device).dtype(type))
        .contiguous(torch::MemoryFormat::ChannelsLast);
  };
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const LevelPlan& level = plan.levels[i];
    const LevelSpec& spec = levels[i];
    const torch::Tensor outer = random({images, level.in_channels, level.in.h, level.in.w});
    const torch::Tensor inner = random({images, level.out_channels, level.out.h, level.out.w});
    const auto weight = [&] {
      return random({level.out_channels, level.in_channels, spec.kernel.h, spec.kernel.w});
    };
    convolutions_.push_back({outer,
                             weight(),
                             inner,
                             per_axis(spec.stride),
                             per_axis(spec.padding),
                             per_axis(spec.dilation),
                             {0, 0},
                             /*transposed=*/false});
    convolutions_.push_back({inner, weight(), outer, per_axis(spec.stride), per_axis(spec.padding),
                             per_axis(spec.dilation), per_axis(level.output_padding),
                             /*transposed=*/true});
  }
}

torch::Tensor BareConvolutions::run(const Convolution& c) const {
  return at::convolution(c.input, c.weight, /*bias=*/{}, c.stride, c.padding, c.dilation,
                         c.transposed, c.output_padding, /*groups=*/1);
}

void BareConvolutions::forward() const {
  torch::NoGradGuard no_grad;
  for (const Convolution& c : convolutions_) run(c);
}

void BareConvolutions::forward_and_backward() const {
  forward();
  torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < convolutions_.size(); ++i) {
    const Convolution& c = convolutions_[i];
    at::convolution_backward(c.gradient, c.input, c.weight, /*bias_sizes=*/{}, c.stride, c.padding,
                             c.dilation, c.transposed, c.output_padding, /*groups=*/1,
                             /*output_mask=*/{i > 0, true, false});
  }
}

}  // namespace convae::app
