#pragma once

#include "convae/core/stopwatch.h"
#include "convae/training/run_folder.h"
#include "convae/training/trainer.h"
#include "convae/training/validation.h"

#include <functional>
#include <string>
#include <vector>

namespace convae {

/// Ties a Trainer to a run folder: validation, metrics.csv, sample pictures, checkpoints and
/// early stopping. Printing is left to the callbacks.
class TrainingRun {
public:
  enum class Outcome {
    finished,       ///< all epochs or steps are done
    stopped_early,  ///< `patience` epochs brought nothing better
    interrupted     ///< should_stop() said so; the work done is saved
  };

  /// `validation` may be null. `config` is kept in every checkpoint. `workers` decode for the
  /// validation.
  TrainingRun(Trainer& trainer, RunFolder& folder, ImageDataset& training, ImageDataset* validation,
              TrainOptions options, std::string config, std::int64_t workers);

  std::function<void()> on_step;
  std::function<void(const MetricsRow&, bool is_best)> on_epoch;
  std::function<bool()> should_stop;
  /// Told of what could not be written (a full disk); the run goes on and tries again.
  std::function<void(const std::string&)> on_problem;

  /// Writes the checkpoint from which a run can start over (`last`, step 0).
  void save_start();

  /// Throws std::runtime_error where the run folder is gone, or where the last state could not be
  /// saved; what was saved before is kept.
  Outcome run();

private:
  /// The images of a validation, by their place in the data set.
  struct Validated {
    std::vector<std::int64_t> indices;
    std::vector<ImageQuality> images;
  };

  bool finish_epoch(const Stopwatch& time);
  bool note_epoch(const MetricsRow& row);
  bool stop_requested() const;
  void save(const std::filesystem::path& path) const;
  void save_in_time();
  void save_at_stop() const;
  /// False where it failed for want of room or the like.
  bool attempt(const std::function<void()>& write);
  void write_samples(std::int64_t epoch, const Validated& validated);
  void write_sample(const std::string& picture, std::int64_t epoch,
                    const std::vector<std::int64_t>& indices, std::int64_t count);

  Trainer& trainer_;
  RunFolder& folder_;
  ImageDataset& training_;
  ImageDataset* validation_;
  TrainOptions options_;
  std::string config_;
  std::int64_t workers_;
  Stopwatch last_save_;
  std::string save_problem_;  // why `last` is not up to date; empty: it is
};

}  // namespace convae
