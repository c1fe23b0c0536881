#pragma once

#include "convae/core/api.h"
#include "convae/data/options.h"
#include "convae/models/options.h"
#include "convae/training/options.h"

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace CONVAE_API convae {

/// A checkpoint that cannot be used. what() names the file, what is wrong and the way out.
class CheckpointError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// How far a run has come: all that a resumed run needs beside weights and moments.
struct Progress {
  std::int64_t epoch = 0;  ///< epochs completed
  /// Where in the epoch's order the next step begins; unusable images count.
  std::int64_t epoch_position = 0;
  std::int64_t step = 0;             ///< steps done altogether
  std::int64_t optimizer_steps = 0;  ///< of these, steps that changed the weights

  std::int64_t skipped_steps = 0;  ///< steps left out because something was not finite
  double seconds = 0;              ///< wall time of the training, validation and saving included

  double epoch_loss_sum = 0;       ///< of the images of the epoch under way
  std::int64_t epoch_images = 0;   ///< usable ones of the epoch under way
  double epoch_train_seconds = 0;  ///< of the epoch under way
  double epoch_lr = 0;             ///< learning rate of its last step

  BestBy best_by = BestBy::val_loss;  ///< what best_value is: train_loss where nothing validates
  double best_value = std::numeric_limits<double>::quiet_NaN();
  std::int64_t best_epoch = 0;      ///< 0: there is no best yet
  std::int64_t lr_falls = 0;        ///< of the plateau schedule
  std::int64_t plateau_start = 0;   ///< epoch from which it waits, if later than the best
  std::int64_t patience_start = 0;  ///< epoch from which patience counts, if later than the best
  bool stopped_early = false;       ///< by patience

  /// Its sums are zero again.
  void begin_epoch() {
    epoch_position = epoch_images = 0;
    epoch_loss_sum = epoch_train_seconds = 0;
  }
};

/// Whether all that `options` give (epochs, steps or time) is done, or the run stopped early.
inline bool is_finished(const TrainOptions& options, const Progress& progress) {
  if (progress.stopped_early) return true;
  if (options.time > 0) return progress.seconds >= options.time;
  return progress.epoch >= options.epochs ||
         (options.max_steps > 0 && progress.step >= options.max_steps);
}

/// What a checkpoint says of itself: the JSON under `__metadata__.convae`.
struct CheckpointInfo {
  /// The newest format, and the one of files that hold nothing version 0.1 did not know.
  static constexpr int kFormat = 2;
  static constexpr int kOldFormat = 1;
  int format = kOldFormat;
  std::string convae_version;
  std::string libtorch_version;
  ModelOptions model;
  ValueRange value_range;  ///< that images are read with: full or fixed
  std::uint64_t seed = 0;
  Progress progress;
  std::string images;  ///< digest of the run's ImageList; empty: of version 0.1, or without a run
  std::string config;  ///< the run's config.toml; empty for a model saved without a run
};

}  // namespace convae
