#pragma once

#include "convae/app/options/command_line.h"
#include "convae/training/checkpoint.h"
#include "convae/training/run_folder.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace convae::app {

/// The options of the run that wrote a checkpoint; the defaults where it says nothing of a run.
/// `source` is its file's name for messages. Throws CheckpointError.
Options saved_options(const CheckpointInfo& info, const std::string& source);

/// What a training command starts from, read and checked before any image is.
struct TrainSetup {
  Options options;  ///< complete, but for channels that only the images tell

  /// Weights of --init; empty: none.
  std::map<std::string, torch::Tensor> initial;

  // Of a run that is resumed:
  std::optional<RunFolder> folder;
  std::optional<Checkpoint> checkpoint;
  TrainOptions saved_train;  ///< as the run was trained so far

  bool resumed() const { return checkpoint.has_value(); }

  /// True where a resumed run has nothing left to do. One that patience had stopped goes on once
  /// it is given more.
  bool already_finished();

  /// Of the run's folder: --name, or the data folder's name. Throws UsageError.
  std::string run_name() const;
};

/// Reads what --resume and --init name and lays the command line's options over it. `words` are
/// the command line's, read again over what the run or checkpoint had.
/// Throws UsageError, CheckpointError or std::runtime_error.
TrainSetup set_up_training(const CommandLine& line, const std::vector<std::string>& words);

/// Checks the options of a set-up that has something to do, and completes the model's with the
/// size its dense latent works at. Throws UsageError and others naming the option.
void check_options(TrainSetup& setup);

}  // namespace convae::app
