#pragma once

#include "convae/data/dataset.h"
#include "convae/models/options.h"
#include "convae/training/options.h"

#include <cstdint>
#include <map>
#include <vector>

/// The OOM killer leaves no message, so memory is checked before training. `free_bytes` is what
/// free_memory_bytes() says; 0 (unknown) lets everything pass.
namespace convae {

/// How many images there are of each size, as batches hold them.
std::map<Size, std::int64_t> images_by_size(const ImageDataset& images);

/// The size of most images, {0, 0} where there are none.
Size most_common(const std::map<Size, std::int64_t>& images_by_size);

/// Throws std::runtime_error if weights, gradients and two moments (16 bytes a weight) do not fit.
void require_memory_for_weights(const ModelOptions& model, std::int64_t free_bytes);

/// The batch size for `--batch-size auto`: a power of two, the largest
/// - with at most 2^16 pixels a step, 2^18 on a GPU: a CPU is at its full speed then, and what more
///   images add costs steps (Masters & Luschi 2018, "Revisiting small batch training",
///   https://arxiv.org/abs/1804.07612); but of 8 to 128 images,
/// - with which an epoch has 8 steps or more, but at least 4 images,
/// - whose training takes at most a quarter of `memory` bytes (0: unknown), but at least one image.
/// A function of its arguments alone.
std::int64_t choose_batch_size(const ModelOptions& model, const TrainOptions& train,
                               const std::map<Size, std::int64_t>& images_by_size,
                               std::int64_t memory, bool on_gpu);

/// What training on a CPU takes for the most images that go through the network together.
std::int64_t bytes_for_batches(const ModelOptions& model, const TrainOptions& train,
                               const std::map<Size, std::int64_t>& images_by_size);

/// What the largest image takes while it is decoded. Throws std::runtime_error where that is more
/// than `free_bytes`, with the limit that would do: `beside` is what the job needs besides.
/// `copies`: how many that were decoded are there at the same time.
std::int64_t require_memory_to_decode(const ImageDataset& images, std::int64_t free_bytes,
                                      std::int64_t beside = 0, std::int64_t copies = 0);

/// How many pixels can go through the network together: Trainer::kMaxPixelsTogether, or fewer where
/// those do not fit. Throws std::runtime_error if not even one image does, by what it keeps for its
/// backward pass; see ModelOptions::training_bytes_per_image(). `beside` as above.
std::int64_t require_memory_for_batches(const ModelOptions& model, const TrainOptions& train,
                                        const std::map<Size, std::int64_t>& images_by_size,
                                        std::int64_t free_bytes, std::int64_t beside = 0);

/// What evaluate holds of an image's value while it is measured, as measured.
inline constexpr std::int64_t kMeasuredBytesAValue = 112;

/// The same without a backward pass: kMaxBatchPixels, or fewer where those do not fit.
/// `bytes_a_value`: what the job itself holds of an image's value, where that may be more.
std::int64_t require_memory_for_inference(const ModelOptions& model, const std::vector<Size>& sizes,
                                          std::int64_t free_bytes, std::int64_t beside = 0,
                                          std::int64_t bytes_a_value = 0);

}  // namespace convae
