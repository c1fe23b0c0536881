#include "convae/training/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace convae {
namespace {

double gigabytes(double bytes) { return bytes / 1e9; }

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
  const std::int64_t parameters = model.parameter_count();
  if (free_bytes == 0 || parameters <= free_bytes / 16) return;
  throw std::runtime_error(fmt::format(
      "--levels '{}': {} parameters need {:.1f} GB for training, but {:.1f} GB are free; use "
      "fewer channels",
      to_string(model.levels), parameters, gigabytes(16 * static_cast<double>(parameters)),
      gigabytes(static_cast<double>(free_bytes))));
}

void require_memory_for_batches(const ModelOptions& model, const TrainOptions& train,
                                const std::map<Size, std::int64_t>& images_by_size,
                                std::int64_t free_bytes) {
  if (free_bytes == 0) return;
  for (const auto& [size, count] : images_by_size) {
    const std::int64_t bytes_per_float_image = model.training_bytes_per_image(size);
    const std::int64_t an_image =
        train.precision == Precision::bf16 ? bytes_per_float_image / 2 : bytes_per_float_image;
    const std::int64_t batch = std::min(count, train.batch_size);
    if (an_image <= free_bytes / batch) continue;
    const std::int64_t fitting = free_bytes / an_image;
    throw std::runtime_error(fmt::format(
        "a batch of {} images of {} needs at least {:.1f} GB for training, but {:.1f} GB are "
        "free; {}resize with --size or cut with --crop",
        batch, to_string(size),
        gigabytes(static_cast<double>(an_image) * static_cast<double>(batch)),
        gigabytes(static_cast<double>(free_bytes)),
        fitting > 0 ? "set --batch-size " + std::to_string(fitting) + " or less, " : ""));
  }
}

}  // namespace convae
