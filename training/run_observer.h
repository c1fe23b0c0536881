#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/names.h"
#include "convae/models/options.h"
#include "convae/training/checkpoint_info.h"
#include "convae/training/run_folder.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace convae {

enum class RunState {
  running,
  finished,       ///< all epochs or steps are done
  stopped_early,  ///< `patience` epochs brought nothing better
  interrupted,    ///< Callbacks::should_stop said so; the work done is saved
  failed
};
constexpr auto names(RunState) {
  return std::to_array<Name<RunState>>({{RunState::running, "running"},
                                        {RunState::finished, "finished"},
                                        {RunState::stopped_early, "stopped early"},
                                        {RunState::interrupted, "interrupted"},
                                        {RunState::failed, "failed"}});
}

/// A run as an observer sees it. The references live as long as the run.
struct RunStatus {
  const RunFolder& folder;
  const ModelOptions& model;
  const TrainOptions& train;  ///< with what `auto` chose
  const Progress& progress;
  const Callbacks& callbacks;
  std::int64_t epochs = 0;           ///< it is to have
  Size input;                        ///< the size most images have in the network
  std::vector<SkippedFile> skipped;  ///< images that could not be used so far
};

/// Follows a run, such as to write a report of it. What it throws ends the run.
class RunObserver {
public:
  virtual ~RunObserver() = default;

  /// Before the first step of this process.
  virtual void begin(const RunStatus&) {}
  /// After every epoch, with its row of metrics.csv. Its checkpoint is written by then.
  virtual void epoch(const RunStatus&, const MetricsRow&, bool /*is_best*/) {}
  /// `message` says why a run failed; empty otherwise.
  virtual void end(const RunStatus&, RunState, const std::string& /*message*/) {}
};

struct TrainJob;
struct TrainResult;

/// train(job, callbacks) with an observer in place of report.html and event files.
TrainResult train(TrainJob job, const Callbacks& callbacks, RunObserver& observer);

}  // namespace convae
