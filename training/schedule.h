#pragma once

#include "convae/training/options.h"

namespace convae {

/// A step's place in a run.
struct SchedulePoint {
  std::int64_t step = 0;  ///< from 0
  std::int64_t total_steps = 1;
  std::int64_t epoch = 0;  ///< from 0
  std::int64_t falls = 0;  ///< of the learning rate so far, for plateau
};

/// Learning rate of an optimizer step. The first `warmup` steps rise linearly: lr (step+1)/warmup;
/// then, with t the share of the remaining steps that is done:
///
/// | schedule  | learning rate |
/// |-----------|---------------|
/// | constant  | lr |
/// | cosine    | min_lr + (lr - min_lr) (1 + cos πt) / 2 |
/// | step      | lr · lr_factor^(whole `lr_epochs` done) |
/// | plateau   | lr · lr_factor^falls, at least min_lr |
/// | one-cycle | lr/25 up to lr over the first 30 %, then down to min_lr, both along a cosine |
///
/// Cosine after Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts;
/// one-cycle after Smith & Topin 2018, https://arxiv.org/abs/1708.07120. Plateau falls after
/// `lr_epochs` epochs without a better value of the measure of `best`.
double learning_rate(const TrainOptions& options, const SchedulePoint& point);

}  // namespace convae
