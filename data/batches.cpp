#include "convae/data/batches.h"

namespace convae {

void for_each_batch(ImageDataset& dataset, const BatchOptions& options, const Callbacks& callbacks,
                    const std::function<void(const MicroBatch&)>& use) {
  Loader loader(
      dataset, plan_in_order(dataset, options.batch_size, options.max_pixels, options.network_size),
      View{}, options.workers);
  std::int64_t done = 0;
  while (const auto step = loader.next()) {
    callbacks.stop_if_asked(done, dataset.size());
    for (const MicroBatch& batch : *step) use(batch);
    done += image_count(*step);
    callbacks.show(options.stage, done, dataset.size());
  }
  // Images that could not be used are done with, too.
  if (done < dataset.size()) callbacks.show(options.stage, dataset.size(), dataset.size());
}

}  // namespace convae
