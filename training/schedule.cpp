#include "training/schedule.h"

#include <cmath>
#include <numbers>

namespace convae {

double learning_rate(const TrainOptions& options, std::int64_t step, std::int64_t total_steps) {
  if (step < options.warmup) {
    return options.lr * static_cast<double>(step + 1) / static_cast<double>(options.warmup);
  }
  if (options.schedule == ScheduleKind::constant || total_steps <= options.warmup) {
    return options.lr;
  }
  const double done = static_cast<double>(step - options.warmup) /
                      static_cast<double>(total_steps - options.warmup);
  return options.min_lr +
         (options.lr - options.min_lr) * (1 + std::cos(std::numbers::pi * done)) / 2;
}

}  // namespace convae
