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

/// Widens `range` to take in all numbers of `images` (…, H, W): part by part, as aminmax() copies.
void take_in(ValueRange& range, const torch::Tensor& images) {
  constexpr std::int64_t kValuesOfAPart = 1 << 20;
  const std::int64_t rows = images.size(-2),
                     a_row = std::max<std::int64_t>(1, images.numel() / rows);
  for (const torch::Tensor& part :
       images.split(std::max<std::int64_t>(1, kValuesOfAPart / a_row), -2)) {
    // LibTorch has no minimum of uint16.
    const auto [low, high] =
        (part.scalar_type() == at::kUInt16 ? part.to(at::kInt) : part).aminmax();
    range.low = std::min(range.low, low.item<double>());
    range.high = std::max(range.high, high.item<double>());
  }
}

/// For images whose values are the files' own numbers.
ImageDataset::Options as_in_files(const auto& options) {
  return {.channels = options.channels,
          .cache = Cache::none,
          .skip_bad = options.skip_bad,
          .max_pixels = options.max_pixels,
          .value_range = {ValueRange::Kind::automatic}};
}

ValueRange nothing_yet() {
  constexpr double kBeyond = std::numeric_limits<double>::infinity();
  return {ValueRange::Kind::fixed, kBeyond, -kBeyond};
}

/// From the least to the greatest number that the file has of an image, loaded with 1 at `top`.
ValueRange numbers_in_file(ImageDataset& images, std::int64_t index, const torch::Tensor& image,
                           double top) {
  const ImageDataset::Options& options = images.options();
  const ValueRange& range = options.value_range;
  const ImageEntry entry = images.entry(index);
  ValueRange numbers = nothing_yet();
  if (!range.is_fixed() && entry.info.format == ImageFormat::pnm) {  // divided by its largest
    ImageDataset raw({{entry}}, as_in_files(options));
    if (const auto stored = raw.load(0)) take_in(numbers, *stored);
    return numbers;
  }
  take_in(numbers, image);
  const double low = range.is_fixed() ? range.low : 0, high = range.is_fixed() ? range.high : top;
  const auto number = [&](double value) { return low + value / top * (high - low); };
  numbers = {ValueRange::Kind::fixed, number(numbers.low), number(numbers.high)};
  if (!entry.info.white_is_zero) return numbers;
  return {ValueRange::Kind::fixed, low + high - numbers.high, low + high - numbers.low};
}

}  // namespace

ValueRange measure_value_range(const ImageEntries& images, const DataOptions& options,
                               const Callbacks& callbacks) {
  ImageEntries whole = images;  // of larger ones only crops are read
  whole.take_if([&](std::size_t i) { return images.infos().size(i).area() > options.max_pixels; });
  ImageDataset raw(whole, as_in_files(options));
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
  if (const std::vector<SkippedFile> bad = raw.bad_files(); sample_bytes.empty() && !bad.empty()) {
    throw std::runtime_error("--value-range auto: none of the images can be read, such as " +
                             in_quotes(bad[0].name) + ": " + printable(bad[0].reason));
  }
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
  const ValueRange& range = images.options().value_range;
  ValueRange used = nothing_yet(), own = nothing_yet();
  double top = 255;           // what 1 is
  bool has_own_tops = false;  // files say theirs
  const std::int64_t count = std::min(images.size(), kMost);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t index = i * images.size() / count;
    const auto image = images.load(index);
    if (!image) continue;
    const double most = image->is_floating_point() ? 1 : image->element_size() == 2 ? 65535 : 255;
    if (most != top && used.low <= used.high) return;  // of several types: no one scale
    top = most;
    take_in(used, *image);
    if (used.high - used.low >= kLittle * top) return;
    const ValueRange numbers = numbers_in_file(images, index, *image, top);
    own.low = std::min(own.low, numbers.low);
    own.high = std::max(own.high, numbers.high);
    has_own_tops |= !range.is_fixed() && images.entry(index).info.format == ImageFormat::pnm;
  }
  if (used.low > used.high || own.low > own.high) return;
  const double low = range.is_fixed() ? range.low : 0, high = range.is_fixed() ? range.high : top;
  callbacks.warn(fmt::format(
      "the images use {:.1f} % of their range: values from {:g} to {:g}{}; if that is all they "
      "have, --value-range auto or LO:HI makes these 0 and 1",
      100 * (used.high - used.low) / top, own.low, own.high,
      has_own_tops ? "" : fmt::format(" of {:g} to {:g}", low, high)));
}

}  // namespace convae
