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

/// Lays the command line's options over those of the run that --resume names, or of the checkpoint
/// that --init names. Throws OptionError, also where they contradict its architecture,
/// CheckpointError or std::runtime_error.
TrainingOptions training_options(const CommandLine& line);

}  // namespace convae::app
