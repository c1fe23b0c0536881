#include "convae/models/options.h"

#include "convae/core/errors.h"

#include <fmt/format.h>

#include <algorithm>

namespace convae {
namespace {

constexpr std::int64_t kSaturated = std::int64_t{1} << 62;

std::int64_t multiply(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) || product > kSaturated ? kSaturated : product;
}

std::int64_t add(std::int64_t a, std::int64_t b) { return a > kSaturated - b ? kSaturated : a + b; }

}  // namespace

void ModelOptions::validate() const {
  check_levels(levels);
  require_option(channels >= 1, fmt::format("channels must be at least 1, but is {}", channels));
  require_option(
      latent_channels >= 0 && latent_channels <= (1 << 20),
      fmt::format("latent-channels must be between 0 and 1048576, but is {}", latent_channels));
  require_option(latent >= 0 && latent <= (1 << 24),
                 fmt::format("latent must be between 0 and 16777216, but is {}", latent));
  require_option(latent == 0 || latent_channels == 0,
                 fmt::format("latent {} and latent-channels {} exclude each other: a bottleneck is "
                             "either dense or a 1x1 convolution",
                             latent, latent_channels));
  require_option(
      !variational || latent > 0 || latent_channels > 0,
      "variational needs a bottleneck: set latent-channels, or latent together with size");
  if (latent == 0) return;
  require_option(
      size.h > 0 && size.w > 0,
      fmt::format("latent {} (a dense bottleneck) works at one input size only; set size to N or "
                  "HxW, or use latent-channels for a bottleneck that takes every size",
                  latent));
  plan_sizes(levels, size, channels);
}

std::int64_t ModelOptions::latent_map_channels() const {
  return latent_channels > 0 ? latent_channels : levels.back().channels;
}

std::vector<std::int64_t> ModelOptions::latent_shape(Size input) const {
  if (latent > 0) return {latent};
  const Size map = plan_sizes(levels, input, channels).latent();
  return {latent_map_channels(), map.h, map.w};
}

std::int64_t ModelOptions::parameter_count() const {
  const auto norm_weights = [&](std::int64_t c) { return norm == Norm::none ? 0 : 2 * c; };
  std::int64_t total = 0;
  std::int64_t in = channels;
  for (const LevelSpec& level : levels) {
    const std::int64_t kernel_area = multiply(level.kernel.h, level.kernel.w);
    const std::int64_t weights = multiply(kernel_area, multiply(in, level.channels));
    total = add(total, multiply(2, weights));
    total = add(total, level.channels + in);           // biases of both directions
    total = add(total, norm_weights(level.channels));  // encoder
    if (&level != &levels.front()) total = add(total, norm_weights(in));  // decoder, but its last
    in = level.channels;
  }
  const std::int64_t narrow = latent > 0 ? latent : latent_channels;
  if (narrow == 0) return total;
  std::int64_t wide = in;
  if (latent > 0) {
    const Size map = plan_sizes(levels, size, channels).latent();
    wide = multiply(in, multiply(map.h, map.w));
  }
  const std::int64_t encoded = variational ? multiply(2, narrow) : narrow;
  total = add(total, multiply(wide, add(encoded, narrow)));
  return add(total, add(add(wide, encoded), norm_weights(in)));
}

std::int64_t ModelOptions::training_bytes_per_image(Size input) const {
  const Plan plan = plan_sizes(levels, input, channels);
  // A level keeps its convolution's output and its own; see BlockTail. Group normalisation is not
  // fused with the activation and keeps what lies between them too.
  const std::int64_t kept = norm == Norm::group ? 3 : 2;
  std::int64_t numbers = 0;
  for (const LevelPlan& level : plan.levels) {
    const std::int64_t encoded = multiply(level.out_channels, multiply(level.out.h, level.out.w));
    const std::int64_t decoded = multiply(level.in_channels, multiply(level.in.h, level.in.w));
    numbers = add(numbers, multiply(kept, add(encoded, decoded)));
  }
  return multiply(numbers, sizeof(float));
}

std::int64_t ModelOptions::inference_bytes_per_image(Size input) const {
  std::int64_t most = 0;
  for (const LevelPlan& level : plan_sizes(levels, input, channels).levels) {
    const std::int64_t encoded = multiply(level.out_channels, multiply(level.out.h, level.out.w));
    const std::int64_t decoded = multiply(level.in_channels, multiply(level.in.h, level.in.w));
    most = std::max(most, add(encoded, decoded));
  }
  return multiply(add(most, multiply(channels, multiply(input.h, input.w))), sizeof(float));
}

}  // namespace convae
