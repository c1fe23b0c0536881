#pragma once

#include <cstdint>

namespace convae {

enum class OptimizerKind { adam, adamw, sgd };
enum class ScheduleKind { cosine, constant };
enum class LossKind { mse, l1 };
const char* to_string(OptimizerKind kind);
const char* to_string(ScheduleKind kind);
/// What happens to a step whose loss or gradient is not finite.
enum class OnNan { stop, skip };
/// Of the network's forward and backward pass; weights, batch statistics, loss and optimizer are
/// float in both.
enum class Precision { fp32, bf16 };
const char* to_string(Precision precision);
const char* to_string(LossKind kind);
const char* to_string(OnNan kind);

/// How a model is trained.
struct TrainOptions {
  std::int64_t epochs = 20;
  std::int64_t batch_size = 16;  ///< images an optimizer step
  double lr = 1e-3;
  OptimizerKind optimizer = OptimizerKind::adam;
  double weight_decay = 0;  ///< L2 for adam and sgd, decoupled for adamw
  ScheduleKind schedule = ScheduleKind::cosine;
  std::int64_t warmup = 0;  ///< steps over which the learning rate rises linearly
  double min_lr = 0;        ///< where the cosine schedule ends
  double clip_grad = 0;     ///< largest norm of all gradients together; 0: off
  LossKind loss = LossKind::mse;
  std::int64_t patience = 0;  ///< epochs without a better loss before stopping; 0: off
  std::uint64_t seed = 0;
  std::int64_t max_steps = 0;   ///< stop after so many steps; 0: after `epochs`
  bool deterministic = false;   ///< only deterministic algorithms (CUDA; a CPU always is)
  std::int64_t save_every = 5;  ///< epochs between kept checkpoints and sample pictures; 0: none
  double save_minutes = 10;     ///< minutes after which `last` is saved within an epoch; 0: never
  Precision precision = Precision::fp32;
  OnNan on_nan = OnNan::stop;  ///< stop the run, or leave such a step out and count it

  /// Throws std::invalid_argument naming the option, its value and what is expected.
  void validate() const;
};

}  // namespace convae
