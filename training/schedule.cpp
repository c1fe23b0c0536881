#include "convae/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace convae {
namespace {

constexpr double kOneCycleRise = 0.3;
constexpr double kOneCycleStart = 1.0 / 25;

/// From `from` (t = 0) to `to` (t = 1), level at both ends.
double along_cosine(double from, double to, double t) {
  return to + (from - to) * (1 + std::cos(std::numbers::pi * t)) / 2;
}

}  // namespace

double learning_rate(const TrainOptions& options, const SchedulePoint& point) {
  if (point.step < options.warmup) {
    const bool rises_later = options.schedule == ScheduleKind::one_cycle;
    return options.lr * (rises_later ? kOneCycleStart : 1) * static_cast<double>(point.step + 1) /
           static_cast<double>(options.warmup);
  }
  const std::int64_t steps = std::max<std::int64_t>(1, point.total_steps - options.warmup);
  const double t = static_cast<double>(point.step - options.warmup) / static_cast<double>(steps);
  switch (options.schedule) {
    case ScheduleKind::constant: return options.lr;
    case ScheduleKind::cosine:
      // A warm-up as long as the run leaves no steps for the fall.
      return point.total_steps <= options.warmup ? options.lr
                                                 : along_cosine(options.lr, options.min_lr, t);
    case ScheduleKind::step: {
      const std::int64_t falls = point.epoch / options.lr_epochs;
      return options.lr * std::pow(options.lr_factor, static_cast<double>(falls));
    }
    case ScheduleKind::plateau:
      return std::max(options.min_lr,
                      options.lr * std::pow(options.lr_factor, static_cast<double>(point.falls)));
    case ScheduleKind::one_cycle:
      return t < kOneCycleRise
                 ? along_cosine(options.lr * kOneCycleStart, options.lr, t / kOneCycleRise)
                 : along_cosine(options.lr, options.min_lr,
                                (t - kOneCycleRise) / (1 - kOneCycleRise));
  }
  return options.lr;
}

}  // namespace convae
