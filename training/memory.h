#pragma once

#include "convae/data/dataset.h"
#include "convae/models/options.h"
#include "convae/training/options.h"

#include <cstdint>
#include <map>

/// The OOM killer leaves no message, so memory is checked before training. `free_bytes` is what
/// free_memory_bytes() says; 0 (unknown) lets everything pass.
namespace convae {

/// How many images there are of each size, as batches hold them.
std::map<Size, std::int64_t> images_by_size(const ImageDataset& images);

/// The size of most images, {0, 0} where there are none.
Size most_common(const std::map<Size, std::int64_t>& images_by_size);

/// Throws std::runtime_error if weights, gradients and two moments (16 bytes a weight) do not fit.
void require_memory_for_weights(const ModelOptions& model, std::int64_t free_bytes);

/// Throws std::runtime_error, naming the batch size that would fit, if what the largest batch keeps
/// for its backward pass does not; see ModelOptions::training_bytes_per_image().
void require_memory_for_batches(const ModelOptions& model, const TrainOptions& train,
                                const std::map<Size, std::int64_t>& images_by_size,
                                std::int64_t free_bytes);

}  // namespace convae
