#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/stopwatch.h"
#include "convae/training/run_observer.h"
#include "convae/training/trainer.h"
#include "convae/training/validation.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace convae {

/// A Trainer and the run folder that it fills: validation, metrics.csv, sample pictures,
/// checkpoints and early stopping. Of several ranks, the first fills the folder and decides; the
/// others train and validate with it.
class Run {
public:
  struct Parts {
    Trainer& trainer;
    RunFolder& folder;
    ImageDataset* validation = nullptr;     ///< null: there are no validation images
    std::vector<SkippedFile> skipped;       ///< before any image was decoded
    RunOptions options;                     ///< when to save
    std::string config;                     ///< kept in config.toml and every checkpoint
    std::vector<RatePoint> rate_test = {};  ///< by which `lr auto` chose
    bool only_ends = false;  ///< all steps were made before, but their epoch was not measured
    std::function<void(const Progress&)> after_step = {};  ///< may be empty
  };

  /// The parts and `observer` must live as long. Lines for the user go to `callbacks`, and progress
  /// in images of all epochs.
  Run(Parts parts, const Callbacks& callbacks, RunObserver& observer);

  /// Writes config.toml, commands.txt, images.csv, skipped.csv, samples/defects.png where
  /// defects are drawn, and the checkpoint (`last`) that a
  /// resume needs, and cuts what lies past the trainer's progress. Throws std::runtime_error.
  void begin(const std::string& command);

  /// Trains to the end, or until callbacks.should_stop. Throws std::runtime_error where the run
  /// folder is gone or the last state could not be saved; what was saved before is kept.
  RunState train();

  /// Images that could not be used, so far.
  std::vector<SkippedFile> skipped() const;

private:
  RunState train_epochs();
  bool is_passed_over() const;
  std::string place() const;
  void note_step();
  bool stopped() const;
  std::optional<Quality> measure();
  bool note_end();
  void finish_epoch(const Quality& quality, double seconds);
  MetricsRow row_of(const Quality& quality, double seconds) const;
  bool note_epoch(const MetricsRow& row);
  std::string epoch_line(const MetricsRow& row) const;
  RunStatus status() const;
  void save(const std::filesystem::path& path) const;
  void save_all();
  void save_last();
  void save_at_stop();
  bool attempt(const std::function<void()>& write);
  std::vector<SkippedFile> bad_files() const;
  void write_skipped();
  void write_job();
  void share_skipped();
  void share_progress();
  void write_samples(std::int64_t epoch, const Quality& quality);
  void write_defects();
  void write_sample(const std::string& picture, std::int64_t epoch,
                    const std::vector<std::int64_t>& indices, std::int64_t count);
  ImageDataset& shown_images();

  Parts parts_;
  Trainer& trainer_ = parts_.trainer;
  RunFolder& folder_ = parts_.folder;
  ImageDataset* validation_ = parts_.validation;
  std::string command_;
  bool job_is_written_ = false;  // command_ and parts_.config; a full disk may have room later
  Callbacks callbacks_;
  RunObserver& observer_;
  Size input_;
  std::string images_;  // their image_digest()
  Stopwatch last_save_;
  Stopwatch last_end_;           // since the latest end of an epoch
  double end_seconds_ = 0;       // what that took: validation and saving; 0: there was none yet
  std::int64_t measured_epoch_;  // the latest one
  bool only_ends_;               // see Parts
  std::vector<SkippedFile> skipped_by_ranks_;  // images that one of them could not use
  std::string save_problem_;                   // why `last` is not up to date; empty: it is
};

}  // namespace convae
