#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"
#include "convae/data/effects.h"
#include "convae/training/loss_terms.h"

#include <array>
#include <cstdint>
#include <string>

namespace CONVAE_API convae {

enum class OptimizerKind { adam, adamw, sgd, muon };
constexpr auto names(OptimizerKind) {
  return std::to_array<Name<OptimizerKind>>({{OptimizerKind::adam, "adam"},
                                             {OptimizerKind::adamw, "adamw"},
                                             {OptimizerKind::sgd, "sgd"},
                                             {OptimizerKind::muon, "muon"}});
}
/// How the learning rate goes; see learning_rate().
enum class ScheduleKind { cosine, constant, step, plateau, one_cycle };
constexpr auto names(ScheduleKind) {
  return std::to_array<Name<ScheduleKind>>({{ScheduleKind::cosine, "cosine"},
                                            {ScheduleKind::constant, "constant"},
                                            {ScheduleKind::step, "step"},
                                            {ScheduleKind::plateau, "plateau"},
                                            {ScheduleKind::one_cycle, "one-cycle"}});
}
/// The column of metrics.csv whose best value makes the best checkpoint.
enum class BestBy { val_loss, val_mse, val_psnr, val_ssim, train_loss };
constexpr auto names(BestBy) {
  return std::to_array<Name<BestBy>>({{BestBy::val_loss, "val_loss"},
                                      {BestBy::val_mse, "val_mse"},
                                      {BestBy::val_psnr, "val_psnr"},
                                      {BestBy::val_ssim, "val_ssim"},
                                      {BestBy::train_loss, "train_loss"}});
}
/// What happens to a step whose loss or gradient is not finite.
enum class OnNan { stop, skip };
constexpr auto names(OnNan) {
  return std::to_array<Name<OnNan>>({{OnNan::stop, "stop"}, {OnNan::skip, "skip"}});
}
/// Of the network's forward and backward pass; weights, batch statistics, loss and optimizer are
/// float in all. tf32, for GPUs: float maps, but products of factors rounded to 10 bits.
/// automatic: see choose_precision().
enum class Precision { automatic, fp32, bf16, tf32 };
constexpr auto names(Precision) {
  return std::to_array<Name<Precision>>({{Precision::automatic, "auto"},
                                         {Precision::fp32, "fp32"},
                                         {Precision::bf16, "bf16"},
                                         {Precision::tf32, "tf32"}});
}

/// How a model is trained.
struct TrainOptions {
  std::int64_t epochs = 20;
  std::int64_t batch_size = 16;  ///< images an optimizer step; 0: see choose_batch_size()
  double lr = 1e-3;              ///< kAutoRate: by a range test, see test_rates()
  static constexpr double kAutoRate = -1;
  OptimizerKind optimizer = OptimizerKind::adam;
  double weight_decay = 0;  ///< L2 for adam and sgd, decoupled for adamw and muon
  ScheduleKind schedule = ScheduleKind::cosine;
  std::int64_t warmup = 0;      ///< steps over which the learning rate rises linearly
  double min_lr = 0;            ///< where cosine, plateau and one-cycle end
  std::int64_t lr_epochs = 10;  ///< step: epochs between falls; plateau: epochs without progress
  double lr_factor = 0.1;       ///< step, plateau: by which the learning rate falls
  double clip_grad = 0;         ///< largest norm of all gradients together; 0: off
  Loss loss{LossTerm{}};
  double beta = 1;        ///< weight of a variational model's KL divergence a latent number
  Effects corruptions;    ///< of the input; the target stays clean
  Effects augmentations;  ///< of input and target
  double ema = 0;         ///< decay of the averaged weights, see WeightAverage; 0: none
  BestBy best = BestBy::val_loss;
  std::int64_t patience = 0;  ///< epochs without a better `best` before stopping; 0: off
  std::uint64_t seed = 0;
  std::int64_t max_steps = 0;  ///< stop after so many steps; 0: after `epochs`
  /// Train for so many seconds in all, validation and saving included, in place of `epochs` and
  /// `max_steps`, and fit the schedule to them; 0: off. Such a run does not repeat itself.
  double time = 0;
  bool deterministic = false;  ///< only algorithms that repeat themselves (GPU; a CPU always does)
  Precision precision = Precision::automatic;
  OnNan on_nan = OnNan::stop;  ///< stop the run, or leave such a step out and count it

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;
};

/// Where a run goes, what it runs on and what it writes. Nothing here changes what is learnt,
/// except that sums depend on the number of threads in their last digits.
struct RunOptions {
  std::string output = "runs";  ///< folder of runs, or of a command's results
  std::string name;             ///< of the run's folder; empty: the data folder's
  std::string device = "auto";  ///< auto, cpu, cuda or cuda:N
  std::int64_t threads = 0;     ///< compute threads; 0: OMP_NUM_THREADS, else one a core
  std::int64_t memory = 0;      ///< bytes that the process keeps to; 0: what the machine has
  std::int64_t save_every = 5;  ///< epochs between kept checkpoints and sample pictures; 0: none
  double save_minutes = 10;     ///< minutes after which `last` is saved within an epoch; 0: never
  bool report = true;           ///< write report.html
  bool strict = false;          ///< refuse to go on with a run whose images have changed
  bool tensorboard = false;     ///< write event files for TensorBoard

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;

  /// The run's name where it is trained on the images of the folder `data`.
  std::string name_for(const std::string& data) const;
};

}  // namespace convae
