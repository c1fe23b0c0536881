#pragma once

#include "convae/data/loader.h"

#include <cstdint>
#include <vector>

namespace convae {

/// What one of several ranks does of an optimizer step. The ranks' shares together are the step:
/// each image is in one of them.
struct StepShare {
  Step own;  ///< of this rank, micro-batches by group and size; may be empty
  /// Images of each group, all ranks' together. A group goes through the network as one batch,
  /// which batch normalisation sees whole.
  std::vector<std::vector<std::int64_t>> groups;

  std::int64_t images() const;  ///< of the step
};

/// Cuts a planned step. A group has at most `pixels_each` pixels for each rank, but at least one
/// image; its images are dealt so that ranks have about as many pixels each, in the step's order.
StepShare share_of_step(const Step& step, const ImageDataset& dataset, std::int64_t pixels_each,
                        std::int64_t rank, std::int64_t ranks);

}  // namespace convae
