#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/dataset.h"
#include "convae/data/options.h"

namespace convae {

/// From the least to the greatest number in these images, what --value-range auto means. Decodes
/// all of them once, with `options.channels`; those above `options.max_pixels` are left out, and so
/// are those that cannot be used, unless `options.skip_bad` is false. Throws std::runtime_error
/// where there are no two different numbers, and Interrupted.
ValueRange measure_value_range(const ImageEntries& images, const DataOptions& options,
                               const Callbacks& callbacks);

/// Warns where up to 16 images, spread over the data set, use less than a quarter of its range. One
/// image of the usual kind is enough to know, and it stays in the data set's cache.
void warn_of_little_contrast(ImageDataset& images, const Callbacks& callbacks);

}  // namespace convae
