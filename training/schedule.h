#pragma once

#include "training/options.h"

namespace convae {

/// Learning rate of optimizer step `step` (from 0) of `total_steps`.
/// The first `warmup` steps rise linearly: lr (step+1)/warmup. Then either constant, or
/// min_lr + (lr - min_lr) (1 + cos(π t)) / 2 with t the share of the remaining steps done
/// (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts).
double learning_rate(const TrainOptions& options, std::int64_t step, std::int64_t total_steps);

}  // namespace convae
