#pragma once

#include "convae/inspection/fold_results.h"
#include "convae/inspection/inspector.h"
#include "convae/training/train.h"

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace convae {

/// A recipe to judge by several deals of good images into training and test.
struct FoldsOptions {
  TrainJob recipe;  ///< how each run is trained; data.data is the folder, see InspectionFolder
  std::int64_t folds = 0;  ///< at least 2, at most one a group
  /// How each is scored; `output` is the folder for all: deal.csv, folds.csv, folds.json and the
  /// runs fold-1, fold-2 …, with their scores in `scores`.
  ScoreOptions scoring;
  /// What a kept run depends on, as (option, value): runs with other settings are refused.
  std::vector<std::pair<std::string, std::string>> settings;
  /// Called with each fold, from 1, when it is scored.
  std::function<void(std::int64_t fold, const ScoreResult& result)> on_fold;
};

/// Deals the groups of all good images, those of training and those of test, and tests each image
/// in one fold, and images with defects in all. Runs that are there are kept: a finished one is
/// only calibrated and scored, an interrupted one is resumed. Throws OptionError, also where the
/// folder has no defects or the output was made with other settings or images; Interrupted; and
/// what train(), calibrate_run() and Inspector::score() throw.
FoldsResult score_folds(FoldsOptions options, const Callbacks& callbacks = {});

}  // namespace convae
