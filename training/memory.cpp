#include "convae/training/memory.h"

#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/loader.h"
#include "convae/training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <tuple>

namespace convae {
namespace {

// For choose_batch_size().
constexpr double kPixelsAStep = 1 << 16;
constexpr double kPixelsAStepOfGpu = 1 << 18;
constexpr std::int64_t kFewestOfABatch = 8;
constexpr std::int64_t kMostOfABatch = 128;
constexpr std::int64_t kStepsAnEpoch = 8;

/// At least a megabyte.
std::string gigabytes(double bytes) {
  const double count = std::max(bytes / 1e9, 0.001);
  return count < 0.1 ? fmt::format("{:.3f}", count) : fmt::format("{:.1f}", count);
}

std::int64_t saturated_product(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  return __builtin_mul_overflow(a, b, &product) ? kMost : product;
}

/// For one image, between forward and backward pass.
std::int64_t bytes_kept(const ModelOptions& model, const TrainOptions& train, Size size) {
  const std::int64_t bytes = model.training_bytes_per_image(size);
  return train.precision == Precision::bf16 ? bytes / 2 : bytes;
}

/// With gradients and workspace, as measured.
std::int64_t bytes_with_workspace(const ModelOptions& model, const TrainOptions& train, Size size) {
  return bytes_kept(model, train, size) / 3 * 4;
}

}  // namespace

std::map<Size, std::int64_t> images_by_size(const ImageDataset& images) {
  std::map<Size, std::int64_t> counts;
  for (std::int64_t i = 0; i < images.size(); ++i) ++counts[images.image_size(i)];
  return counts;
}

Size most_common(const std::map<Size, std::int64_t>& images_by_size) {
  const auto most =
      std::ranges::max_element(images_by_size, {}, [](const auto& entry) { return entry.second; });
  return most == images_by_size.end() ? Size{} : most->first;
}

void require_memory_for_weights(const ModelOptions& model, std::int64_t free_bytes) {
  if (model.linear == Linear::pca) {
    // In encoder and decoder, and twice more while they are found.
    const Size block = model.linear_block();
    const double components = 4.0 * sizeof(float) * model.bottleneck_numbers() *
                              std::max<std::int64_t>(1, model.channels) * block.area();
    if (free_bytes > 0 && components > free_bytes) {
      throw std::runtime_error(fmt::format(
          "--linear 'pca': {} components of {} of {} need {} GB, but {} GB "
          "are free{}; use a smaller {}",
          model.bottleneck_numbers(), model.latent > 0 ? "images" : "blocks", to_string(block),
          gigabytes(components), gigabytes(free_bytes), limit_text(components),
          model.latent > 0 ? "--latent or --size" : "--latent-channels"));
    }
  }
  const std::int64_t parameters = model.parameter_count();
  if (free_bytes == 0 || parameters <= free_bytes / 16) return;
  const double needed = 16.0 * parameters;
  ModelOptions open = model;
  open.latent = 0;
  const bool is_latent = model.latent > 0 && open.parameter_count() < parameters / 2;
  throw std::runtime_error(fmt::format(
      "{}: {} parameters need {} GB for training, but {} GB are free{}; use {}",
      is_latent ? fmt::format("--latent {}", model.latent)
                : fmt::format("--levels '{}'", to_string(model.levels)),
      parameters, gigabytes(needed), gigabytes(free_bytes), limit_text(needed),
      is_latent ? "a smaller one, a smaller --size, or more levels" : "fewer channels"));
}

std::int64_t choose_batch_size(const ModelOptions& model, const TrainOptions& train,
                               const std::map<Size, std::int64_t>& images_by_size,
                               std::int64_t memory, bool on_gpu) {
  std::int64_t images = 0;
  double pixels = 0;
  for (const auto& [size, count] : images_by_size) {
    images += count;
    pixels += static_cast<double>(count) * size.area();
  }
  const double pixels_a_step = on_gpu ? kPixelsAStepOfGpu : kPixelsAStep;
  const auto by_pixels = static_cast<std::int64_t>(pixels_a_step * images / pixels);
  const std::int64_t most = std::min(std::clamp(by_pixels, kFewestOfABatch, kMostOfABatch),
                                     std::max(kFewestOfABatch / 2, images / kStepsAnEpoch));
  TrainOptions chosen = train;
  chosen.batch_size = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(most)));
  while (chosen.batch_size > 1 && memory > 0 &&
         bytes_for_batches(model, chosen, images_by_size) > memory / 4) {
    chosen.batch_size /= 2;
  }
  return chosen.batch_size;
}

std::int64_t bytes_for_batches(const ModelOptions& model, const TrainOptions& train,
                               const std::map<Size, std::int64_t>& images_by_size) {
  std::int64_t most = 0;
  for (const auto& [size, count] : images_by_size) {
    const std::int64_t fitting =
        std::max<std::int64_t>(1, Trainer::kMaxPixelsTogether / size.area());
    const std::int64_t together = std::min({count, train.batch_size, fitting});
    most = std::max(most, saturated_product(bytes_with_workspace(model, train, size), together));
  }
  return most;
}

std::int64_t require_memory_to_decode(const ImageDataset& images, std::int64_t free_bytes,
                                      std::int64_t beside, std::int64_t copies) {
  std::int64_t largest = -1, most = 0;
  for (std::int64_t i = 0; i < images.size(); ++i) {
    const std::int64_t bytes = images.decoded_bytes(i) + copies * images.stored_bytes(i);
    if (bytes > most) std::tie(largest, most) = std::tie(i, bytes);
  }
  if (free_bytes == 0 || most <= free_bytes) return most;
  throw std::runtime_error(fmt::format(
      "{} of {} takes {} GB decoded, but {} GB are free{}; leave it out with --exclude{}",
      in_quotes(images.name(largest)), to_string(images.entry(largest).file_size()),
      gigabytes(most), gigabytes(free_bytes), limit_text(most + beside),
      images.options().crop && !images.options().size
          ? ", or read only the crop of larger ones with a lower --max-pixels"
          : ""));
}

std::int64_t require_memory_for_batches(const ModelOptions& model, const TrainOptions& train,
                                        const std::map<Size, std::int64_t>& images_by_size,
                                        std::int64_t free_bytes, std::int64_t beside) {
  std::int64_t together = Trainer::kMaxPixelsTogether;
  if (free_bytes == 0) return together;
  for (const auto& [size, count] : images_by_size) {
    const std::int64_t an_image = bytes_kept(model, train, size);
    const std::int64_t needed = bytes_with_workspace(model, train, size);
    if (an_image > free_bytes) {
      throw std::runtime_error(fmt::format(
          "a batch of {} images of {} needs at least {} GB for training, even one after the "
          "other, but {} GB are free{}; resize with --size or cut with --crop",
          std::min(count, train.batch_size), to_string(size), gigabytes(an_image),
          gigabytes(free_bytes), limit_text(needed + beside)));
    }
    const std::int64_t fitting = std::max<std::int64_t>(1, free_bytes / needed);
    if (fitting < std::min(count, train.batch_size)) {
      together = std::min(together, saturated_product(fitting, size.area()));
    }
  }
  return together;
}

std::int64_t require_memory_for_inference(const ModelOptions& model, const std::vector<Size>& sizes,
                                          std::int64_t free_bytes, std::int64_t beside,
                                          std::int64_t bytes_a_value) {
  std::int64_t together = kMaxBatchPixels;
  if (free_bytes == 0 || sizes.empty()) return together;
  const auto values_of = [&](Size size) {
    return size.area() * std::max<std::int64_t>(1, model.channels);
  };
  const auto bytes_of = [&](Size size) {
    return std::max(model.inference_bytes_per_image(size), bytes_a_value * values_of(size));
  };
  const Size largest = *std::ranges::max_element(sizes, {}, bytes_of);
  if (const std::int64_t needed = bytes_of(largest); needed > free_bytes) {
    throw std::runtime_error(
        fmt::format("an image of {} needs at least {} GB, but {} GB are free{}; resize with --size",
                    to_string(largest), gigabytes(needed), gigabytes(free_bytes),
                    limit_text(2.0 * needed + beside)));
  }
  for (const Size size : sizes) {
    const std::int64_t an_image = bytes_of(size);
    // With workspace, or with what is measured of images.
    const std::int64_t needed = std::max(2 * an_image, values_of(size) * kMeasuredBytesAValue);
    const std::int64_t fitting = std::max<std::int64_t>(1, free_bytes / needed);
    together = std::min(together, saturated_product(fitting, size.area()));
  }
  return together;
}

}  // namespace convae
