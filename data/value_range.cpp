#include "convae/data/value_range.h"

#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <stdexcept>

namespace convae {
namespace {

/// Widens `range` to take in all numbers of `images`.
void take_in(ValueRange& range, const torch::Tensor& images) {
  // LibTorch has no minimum of uint16.
  const auto [low, high] =
      (images.scalar_type() == at::kUInt16 ? images.to(at::kInt) : images).aminmax();
  range.low = std::min(range.low, low.item<double>());
  range.high = std::max(range.high, high.item<double>());
}

ValueRange nothing_yet() {
  constexpr double kBeyond = std::numeric_limits<double>::infinity();
  return {ValueRange::Kind::fixed, kBeyond, -kBeyond};
}

}  // namespace

ValueRange measure_value_range(const ImageEntries& images, const DataOptions& options,
                               const Callbacks& callbacks) {
  ImageDataset raw(images, {.channels = options.channels,
                            .size = {},
                            .crop = {},
                            .cache = Cache::none,
                            .skip_bad = options.skip_bad,
                            .max_pixels = options.max_pixels,
                            .value_range = {ValueRange::Kind::automatic}});
  BatchOptions batches;
  batches.stage = "value range";
  batches.batch_size = 1;
  batches.workers = worker_count(options.workers);
  ValueRange range = nothing_yet();
  std::set<std::size_t> sample_bytes;
  for_each_batch(raw, batches, callbacks, [&](const MicroBatch& batch) {
    take_in(range, batch.images);
    sample_bytes.insert(batch.images.element_size());
  });
  if (!(range.low < range.high)) {
    throw std::runtime_error("--value-range auto: " +
                             (sample_bytes.empty()
                                  ? "it is of images that are read as a whole, and there are none "
                                    "(see --max-pixels); give LO:HI"
                                  : "all values of the images are " + number_text(range.low)));
  }
  if (sample_bytes.size() > 1) {
    callbacks.warn("the images have samples of different types; --value-range " + to_string(range) +
                   " takes the numbers of all alike");
  }
  return range;
}

void warn_of_little_contrast(ImageDataset& images, const Callbacks& callbacks) {
  constexpr std::int64_t kMost = 16;
  constexpr double kLittle = 0.25;
  ValueRange used = nothing_yet();
  double top = 255;  // what 1 is
  const std::int64_t count = std::min(images.size(), kMost);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto image = images.load(i * images.size() / count);
    if (!image) continue;
    const double most = image->is_floating_point() ? 1 : image->element_size() == 2 ? 65535 : 255;
    if (most != top && used.low <= used.high) return;  // of several types: no one scale
    top = most;
    take_in(used, *image);
    if (used.high - used.low >= kLittle * top) return;
  }
  if (used.low > used.high) return;
  const ValueRange& range = images.options().value_range;
  const auto in_file = [&](double value) {
    return range.is_fixed() ? range.low + value / top * (range.high - range.low) : value;
  };
  const double low = range.is_fixed() ? range.low : 0, high = range.is_fixed() ? range.high : top;
  callbacks.warn(fmt::format(
      "the images use {:.1f} % of their range: values from {:g} to {:g} of {:g} to {:g}; if that "
      "is all they have, --value-range auto or LO:HI makes these 0 and 1",
      100 * (used.high - used.low) / top, in_file(used.low), in_file(used.high), low, high));
}

}  // namespace convae
