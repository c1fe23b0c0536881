#pragma once

#include "convae/data/dataset.h"
#include "convae/training/run_folder.h"
#include "convae/training/train.h"

#include <vector>

/// What is settled before a run begins.
namespace convae {

/// A run to go on with; it is locked as long as `folder` lives.
struct SavedRun {
  RunFolder folder;
  Checkpoint checkpoint;
};

/// The architecture of a checkpoint takes the place of the job's.
void adopt(TrainJob& job, const ModelOptions& model);

/// Opens job.resume and adopts its architecture. Where other images or another loss are asked for,
/// its best value does not count any more. Throws OptionError, CheckpointError, std::runtime_error.
SavedRun open_run(TrainJob& job, const Callbacks& callbacks);

/// Whether a run has nothing left to do. One that stopped early goes on if it is given more.
bool is_finished(const TrainJob& job, Progress& progress);

/// Checks all options before the first image is read, and completes the model's: its channels, as
/// far as they are known, and the size at which a dense latent works. Throws OptionError,
/// GeometryError, or std::runtime_error where memory is short.
void check_job(TrainJob& job);

/// Throws OptionError where no validation image gives the value that `best` goes by.
void require_measure_of_best(const TrainJob& job, const std::vector<ImageEntry>& validation);

}  // namespace convae
