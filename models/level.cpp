#include "convae/models/level.h"

#include "convae/models/kernels/fused_shortcut.h"
#include "convae/models/shortcut.h"

#include <string>

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
  if (kind_ == Kind::conv) return refined(with_shortcut(BlockImpl::forward(maps, sizes), maps));
  const Maps inputs = refined(maps);
  return with_shortcut(BlockImpl::forward(inputs, sizes), inputs);
}

Maps LevelImpl::forward_open(const Maps& maps, const std::vector<Size>& sizes) {
  const Maps inputs = refined(maps);
  return with_shortcut(convolve_only(inputs, sizes), inputs);
}

Maps LevelImpl::refined(Maps maps) {
  for (Residual& residual : residuals_) maps = residual->forward(maps);
  return maps;
}

Maps LevelImpl::with_shortcut(Maps outputs, const Maps& inputs) const {
  if (shortcut_ == Shortcut::none) return outputs;
  const bool down = kind_ == Kind::conv;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    torch::Tensor& y = outputs[i];
    const torch::Tensor x = inputs[i].to(y.scalar_type());
    if (can_fuse_shortcut(y, x, level_.stride, down)) {
      y = fused_shortcut(y, x, level_.stride, down);
    } else {
      const auto shuffled = down ? shuffled_down : shuffled_up;
      y = added(y, shuffled(x, level_.stride, y.size(1), {y.size(2), y.size(3)}));
    }
  }
  return outputs;
}

}  // namespace convae
