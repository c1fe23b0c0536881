#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/data/folder.h"
#include "convae/data/options.h"
#include "convae/models/options.h"
#include "convae/training/checkpoint_info.h"
#include "convae/training/options.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// A run to train, or to go on with. Only data.data, the folder of images, has to be given.
struct TrainJob {
  DataOptions data;
  ModelOptions model;
  TrainOptions train;
  RunOptions run;

  /// Weights to start from: a checkpoint or run folder, whose architecture takes the place of
  /// `model`, or a safetensors file with the names and shapes of `model`. Empty: random weights.
  std::filesystem::path init;

  /// Run folder to go on with: from its last checkpoint, with its architecture in place of `model`
  /// and the other options as they are here. Empty: a new run.
  std::filesystem::path resume;

  /// Whether a new run whose folder exists takes run.name-2, name-3 …; if not, it fails.
  bool counts_up = true;

  /// The options `resume` was trained with so far. With other images or another loss, the search
  /// for the best begins anew; a run that stopped early goes on once it is given more. Unset: they
  /// are the same.
  struct Earlier {
    DataOptions data;
    TrainOptions train;
  };
  std::optional<Earlier> earlier;

  /// Text of all options, asked for when the last of them is known, such as the images' channels.
  /// It is kept in config.toml and every checkpoint. Unset: what finds the images again.
  std::function<std::string(const TrainJob&)> config;

  std::string command;  ///< kept in commands.txt; empty: none

  /// Called after each step, with how far the run is, on every rank; may be empty.
  std::function<void(const Progress& progress)> after_step = {};
};

/// What came of it.
struct TrainResult {
  std::filesystem::path folder;      ///< the run's
  Progress progress;                 ///< epochs, steps, the best value and its epoch
  bool was_finished = false;         ///< a resumed run had nothing left to do: nothing was changed
  std::vector<SkippedFile> skipped;  ///< images that could not be used
};

/// Trains a model on a folder of images and keeps everything in a run folder: metrics.csv, sample
/// pictures, checkpoints, train.log and, as job.run asks, report.html and event files.
///
///     TrainJob job;
///     job.data.data = "photos";
///     const auto print = [](const std::string& line) { puts(line.c_str()); };
///     TrainResult result = train(job, {.info = print});
///     Model model = load(result.folder);
///
/// Sets the process's number of compute threads. Throws OptionError before the first image is read;
/// Interrupted where callbacks.should_stop said so, after saving; std::runtime_error. A run that
/// cannot begin leaves no folder behind.
TrainResult train(TrainJob job, const Callbacks& callbacks = {});

}  // namespace convae
