#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/tensor.h"
#include "convae/data/dataset.h"
#include "convae/data/effects.h"

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace convae {

/// Images of one size that go through the network together.
struct MicroBatch {
  std::vector<std::int64_t> indices;
  /// (N, C, H, W), uint8, uint16 or float32: the widest type of any of the images; channels-last.
  torch::Tensor images;
  /// What the network sees in their place, float32 in [0, 1]; undefined: `images`.
  torch::Tensor corrupted = {};
  /// (N, 1, H, W) in [0, 1], how much each pixel was changed; undefined: not at all, or not asked.
  torch::Tensor labels = {};
  /// Which of the step's groups it belongs to, where several processes share the step.
  std::int64_t group = 0;
};

/// The images of one optimizer step, up to batch_size, in one micro-batch a size.
using Step = std::vector<MicroBatch>;

/// Number of images in a step.
std::int64_t image_count(const Step& step);

/// Which images each step of an epoch takes; `images` of the micro-batches are empty. Training
/// order is a shuffle that depends on (seed, epoch) alone, without its first `position` images.
std::vector<Step> plan_training_epoch(const ImageDataset& dataset, std::int64_t batch_size,
                                      std::uint64_t seed, std::int64_t epoch,
                                      std::int64_t position = 0);

/// Most pixels that go through a network together: 4 megapixels take about 0.5 GB.
inline constexpr std::int64_t kMaxBatchPixels = 4'000'000;

/// The data set's order, with images of one size next to each other. Batches hold at most
/// `max_pixels` pixels (but at least one image) at their own size or at `network_size`, whichever
/// is more.
std::vector<Step> plan_in_order(const ImageDataset& dataset, std::int64_t batch_size,
                                std::int64_t max_pixels = kMaxBatchPixels, Size network_size = {});

/// How images look in their batches.
struct View {
  bool random = false;  ///< for training, by (seed, epoch, index): crops anywhere, augmentations;
                        ///< false: crops in the centre, nothing else
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  Effects augmentations = {};
};

/// Most bytes that images decoded ahead take: 256 MiB, or an eighth of the free memory.
std::int64_t most_bytes_ahead();

/// Delivers the steps of a plan in order and decodes ahead on its own threads, whose number does
/// not change the result. Unusable images are missing from their micro-batch, empty micro-batches
/// from their step; a step may be empty.
class Loader {
public:
  /// `workers` 0 decodes in next(). `pinned`: batches lie where a GPU fetches them by itself.
  /// Images decoded ahead take at most `bytes_ahead`, but there may always be one; 0:
  /// most_bytes_ahead().
  Loader(ImageDataset& dataset, std::vector<Step> plan, View view, std::int64_t workers,
         bool pinned = false, std::int64_t bytes_ahead = 0);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next step, or nullopt at the end. Throws what loading threw.
  std::optional<Step> next();

private:
  void work();
  bool has_room() const;
  std::optional<torch::Tensor> take(std::size_t position);
  std::optional<torch::Tensor> prepare(std::int64_t index);

  ImageDataset& dataset_;
  std::vector<Step> plan_;
  View view_;
  bool pinned_;
  std::int64_t bytes_ahead_;
  std::vector<std::int64_t> order_;  // dataset indices of all images, in the plan's order
  std::size_t next_step_ = 0;
  std::size_t taken_ = 0;  // images handed to next() so far

  struct Slot {
    bool ready = false;
    std::optional<torch::Tensor> image;
    std::exception_ptr error;
    std::int64_t bytes = 0;
  };
  std::mutex mutex_;  // guards what follows
  std::condition_variable slot_ready_, slot_free_;
  std::vector<Slot> slots_;  // a ring: position p of order_ lives in slot p % size
  std::size_t started_ = 0;  // images some worker has begun with
  std::size_t released_ = 0;
  std::int64_t bytes_held_ = 0;  // by images that are being decoded or wait
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

struct BatchOptions {
  std::string stage;                          ///< for Callbacks::progress
  std::int64_t batch_size = 16;               ///< at most so many images together …
  std::int64_t max_pixels = kMaxBatchPixels;  ///< … and so many pixels, but at least one image
  Size network_size;         ///< {0, 0}: images go through the network as the data set has them
  std::int64_t workers = 0;  ///< threads that decode ahead; see Loader
  std::function<bool(std::int64_t index)> leaves_out =
      {};                      ///< images that do not come; empty: none
  std::int64_t processes = 1;  ///< that share the batches: progress counts for all of them
};

/// The batches that for_each_batch() makes.
std::vector<Step> plan_batches(const ImageDataset& dataset, const BatchOptions& options);

/// Calls `use` once for each of these batches; it is empty where no image of it is usable. Throws
/// as for_each_batch() does.
void for_each_planned(ImageDataset& dataset, std::vector<Step> plan, const BatchOptions& options,
                      const Callbacks& callbacks, const std::function<void(const Step&)>& use);

/// Calls `use` with all usable images of a data set, in batches of one size, in the data set's
/// order with images of one size next to each other. Throws Interrupted ("stopped after 3 of 8
/// images") where callbacks.should_stop says so.
void for_each_batch(ImageDataset& dataset, const BatchOptions& options, const Callbacks& callbacks,
                    const std::function<void(const MicroBatch&)>& use);

}  // namespace convae
