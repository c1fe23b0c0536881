#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/loader.h"

#include <functional>
#include <string>

namespace convae {

/// Most pixels that go through a network together: 4 megapixels take about 0.5 GB.
inline constexpr std::int64_t kMaxBatchPixels = 4'000'000;

struct BatchOptions {
  std::string stage;                          ///< for Callbacks::progress
  std::int64_t batch_size = 16;               ///< at most so many images together …
  std::int64_t max_pixels = kMaxBatchPixels;  ///< … and so many pixels, but at least one image
  Size network_size;         ///< {0, 0}: images go through the network as the data set has them
  std::int64_t workers = 0;  ///< threads that decode ahead; see Loader
};

/// Calls `use` with all usable images of a data set, in batches of one size, in the data set's
/// order with images of one size next to each other. Throws Interrupted ("stopped after 3 of 8
/// images") where callbacks.should_stop says so.
void for_each_batch(ImageDataset& dataset, const BatchOptions& options, const Callbacks& callbacks,
                    const std::function<void(const MicroBatch&)>& use);

}  // namespace convae
