#include "convae/models/level.h"

#include "convae/models/kernels/flat_maps.h"
#include "convae/models/kernels/fused_shortcut.h"
#include "convae/models/shortcut.h"

#include <optional>
#include <string>
#include <utility>

namespace convae {
ResidualImpl::ResidualImpl(std::int64_t channels, const ModelOptions& options)
    : first_(register_module("first", Block(BlockImpl::Kind::conv, channels, keeping_size(channels),
                                            options, /*activated=*/true))),
      second_(register_module(
          "second", Block(BlockImpl::Kind::conv, channels, keeping_size(channels), options,
                          /*activated=*/false))) {}

Maps ResidualImpl::forward(const Maps& maps) {
  const std::vector<Size> sizes = sizes_of(maps);
  Maps outputs = second_->forward(first_->forward(maps, sizes), sizes);
  for (std::size_t i = 0; i < maps.size(); ++i) outputs[i] = added(outputs[i], maps[i]);
  return outputs;
}

LevelImpl::LevelImpl(Kind kind, std::int64_t in_channels, const LevelSpec& level,
                     const ModelOptions& options, bool activated)
    : BlockImpl(kind, in_channels, level, options, activated), shortcut_(options.shortcut) {
  const std::int64_t channels = kind == Kind::conv ? level.channels : in_channels;
  for (std::int64_t i = 0; i < level.residual_blocks; ++i) {
    residuals_.emplace_back(
        register_module("residual" + std::to_string(i), Residual(channels, options)));
  }
}

Maps LevelImpl::forward(const Maps& maps, const std::vector<Size>& sizes) {
  const bool down = kind_ == Kind::conv;
  Maps inputs = down ? maps : refined(maps);
  const bool in_place = fuses(inputs, sizes) || !at::GradMode::is_enabled();
  const Maps outputs = with_shortcut(std::move(inputs), sizes, in_place, [&](const Maps& forked) {
    return BlockImpl::forward(forked, sizes);
  });
  return down ? refined(outputs) : outputs;
}

Maps LevelImpl::forward_open(const Maps& maps, const std::vector<Size>& sizes) {
  return with_shortcut(refined(maps), sizes, /*in_place=*/true, [&](const Maps& forked) {
    return convolve_all(forked, sizes, /*with_bias=*/false);
  });
}

Maps LevelImpl::refined(Maps maps) {
  for (Residual& residual : residuals_) maps = residual->forward(maps);
  return maps;
}

Maps LevelImpl::with_shortcut(Maps inputs, const std::vector<Size>& sizes, bool in_place,
                              const std::function<Maps(const Maps&)>& layers) const {
  if (shortcut_ == Shortcut::none) return layers(inputs);
  const bool down = kind_ == Kind::conv;
  std::vector<std::optional<ForkedInput>> forks(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    torch::Tensor& x = inputs[i];
    x = x.to(computed_type(x));
    const std::vector<std::int64_t> output = {x.size(0), level_.channels, sizes[i].h, sizes[i].w};
    if (!can_fuse_shortcut(x, output, level_.stride, down)) continue;
    forks[i].emplace(x, output, level_.stride, down);
    x = forks[i]->maps;
  }
  Maps outputs = layers(inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    torch::Tensor& y = outputs[i];
    if (forks[i]) {
      if (!in_place) y = y.to(inputs[i].scalar_type(), /*non_blocking=*/false, /*copy=*/true);
      fused_shortcut_(y, *forks[i], level_.stride, down);
    } else {
      const auto shuffled = down ? shuffled_down : shuffled_up;
      y = added(y, shuffled(inputs[i], level_.stride, y.size(1), {y.size(2), y.size(3)}));
    }
  }
  return outputs;
}

}  // namespace convae
