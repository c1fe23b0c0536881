#pragma once

#include "convae/app/options/command_line.h"
#include "convae/training/train.h"

#include <optional>

namespace convae::app {

/// A training command's options, all of them.
struct TrainingOptions {
  Options options;
  std::optional<TrainJob::Earlier> earlier;  ///< of the run that --resume names
};

/// The options of the recipe for score --folds: those of --config, or of the run that --checkpoint
/// names, with the command line's over them. Without what belongs to one run alone: its name, its
/// validation folder and its list of images. Throws like training_options().
TrainingOptions recipe_options(const CommandLine& line);

/// Lays the command line's options over those of the run that --resume names, or of the checkpoint
/// that --init names. Throws OptionError, also where they contradict its architecture,
/// CheckpointError or std::runtime_error.
TrainingOptions training_options(const CommandLine& line);

/// Warns of options of images and training that differ from the finished run's; with --strict,
/// those that choose images are refused. Totals do not count: the run has reached them.
void warn_of_options_without_effect(const CommandLine& line, const TrainingOptions& given,
                                    const Callbacks& callbacks);

}  // namespace convae::app
