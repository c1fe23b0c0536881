#pragma once

#include "convae/data/split.h"
#include "convae/models/options.h"
#include "convae/training/loss_terms.h"

namespace convae {

/// Refuses images that are smaller than the crop, too small for the loss, or that the levels
/// cannot take, by their size in batches. Takes copies of all it needs.
Refusal unfit_for_training(const ModelOptions& model, const DataOptions& data, const Loss& loss);

}  // namespace convae
