#include "convae/data/augment.h"

#include "convae/core/random.h"
#include "convae/data/image_io.h"
#include "convae/data/mat.h"

#include <ATen/ops/empty.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>

namespace convae {
namespace {

/// The pixels of a (C, H, W) tensor with channels-last strides, without a copy.
cv::Mat as_mat(const torch::Tensor& image) { return mat_view(image.permute({1, 2, 0})); }

torch::Tensor empty_image_like(const torch::Tensor& image) {
  return at::empty({image.size(1), image.size(2), image.size(0)}, image.options())
      .permute({2, 0, 1});
}

/// y = factor·x + summand, rounded and limited to the type's range, [0,1] for floats.
torch::Tensor scaled(const torch::Tensor& image, double factor, double summand) {
  torch::Tensor result = empty_image_like(image);
  as_mat(image).convertTo(as_mat(result), /*rtype=*/-1, factor, summand);
  return result.is_floating_point() ? result.clamp_(0, 1) : result;
}

torch::Tensor flipped(const torch::Tensor& image, int axis) {
  torch::Tensor result = empty_image_like(image);
  cv::Mat pixels = as_mat(result);
  cv::flip(as_mat(image), pixels, axis);
  return result;
}

/// A window of at least `least` of each side, anywhere, enlarged to the image's size.
torch::Tensor zoomed(const torch::Tensor& image, double least, CounterRandom& random) {
  const std::int64_t height = image.size(1), width = image.size(2);
  const double share = least + (1 - least) * random.uniform();
  const auto part = [&](std::int64_t side) {
    return std::clamp<std::int64_t>(std::llround(share * static_cast<double>(side)), 1, side);
  };
  const std::int64_t h = part(height), w = part(width);
  const std::int64_t top = random.below(height - h + 1), left = random.below(width - w + 1);
  return resize_image(image.narrow(1, top, h).narrow(2, left, w), height, width);
}

torch::Tensor apply(const torch::Tensor& image, const Effect& effect, CounterRandom& random) {
  const double range = image.is_floating_point()            ? 1
                       : image.scalar_type() == at::kUInt16 ? 65535
                                                            : 255;
  const auto around_zero = [&] { return effect.amount * (2 * random.uniform() - 1); };
  switch (effect.kind) {
    case Effect::Kind::flip:
      return random.uniform() < effect.amount ? flipped(image, /*axis=*/1) : image;
    case Effect::Kind::flip_vertical:
      return random.uniform() < effect.amount ? flipped(image, /*axis=*/0) : image;
    case Effect::Kind::crop: return zoomed(image, effect.amount, random);
    case Effect::Kind::brightness: return scaled(image, 1, range * around_zero());
    case Effect::Kind::contrast: {
      const double factor = 1 + around_zero();
      const cv::Scalar means = cv::mean(as_mat(image));
      double mean = 0;
      for (int c = 0; c < image.size(0); ++c) mean += means[c] / static_cast<double>(image.size(0));
      return scaled(image, factor, mean * (1 - factor));
    }
    default: TORCH_CHECK(false, "not an augmentation");
  }
}

}  // namespace

torch::Tensor augment(const torch::Tensor& image, const Effects& augmentations, const Draw& draw) {
  torch::Tensor result = image.permute({1, 2, 0}).contiguous().permute({2, 0, 1});
  std::uint64_t nth = 0;
  for (const Effect& effect : augmentations) {
    CounterRandom random(draw.seed, draw.epoch, draw.index, Purpose::augmentation, nth++);
    result = apply(result, effect, random);
  }
  return result;
}

}  // namespace convae
