#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/dataset.h"
#include "convae/models/autoencoder.h"
#include "convae/training/options.h"
#include "convae/training/run_folder.h"

#include <optional>
#include <vector>

namespace convae {

/// Trains a copy of `net` for at most 100 steps, at learning rates that rise geometrically from
/// tiny ones to those at which the loss blows up (Smith 2017, "Cyclical learning rates for training
/// neural networks", https://arxiv.org/abs/1506.01186). Neither weights nor random numbers of
/// `net`'s own training are touched. With train.time it takes a tenth of that, or 30 steps. Returns
/// each step's rate and loss; ends early where the loss blows up, or with an empty curve where
/// callbacks.should_stop says so.
std::vector<RatePoint> test_rates(const Autoencoder& net, ImageDataset& dataset,
                                  const TrainOptions& train, torch::Device device,
                                  std::int64_t workers, std::int64_t pixels_together,
                                  const Callbacks& callbacks);

/// The learning rate that such a curve speaks for, with optimizer and schedule of `train`, to two
/// digits; nullopt where it has too few points or neither falls nor rises.
std::optional<double> rate_from(const std::vector<RatePoint>& curve, const TrainOptions& train);

}  // namespace convae
