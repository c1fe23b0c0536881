#pragma once

#include "convae/models/options.h"
#include "convae/reporting/thumbnails.h"
#include "convae/training/checkpoint.h"
#include "convae/training/run_folder.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace convae {

/// What a run's report says that is not in the run's folder.
struct ReportFacts {
  ModelOptions model;
  Size input;               ///< the size most images have in the network
  std::int64_t epochs = 0;  ///< that the run is to have
};

/// The parts of sample pictures, by the picture's name and epoch.
using CutSamples = std::map<std::pair<std::string, std::int64_t>, std::vector<ThumbnailRow>>;

/// report.html in a run's folder: one page that needs nothing else, bounded in size however long
/// the run. It is made of the folder's files alone (metrics.csv, samples/, …), so that a resumed
/// run's report has all of it.
class RunReport {
public:
  enum class State { running, finished, stopped_early, interrupted, failed };
  friend constexpr auto names(State) {
    return std::to_array<Name<State>>({{State::running, "running"},
                                       {State::finished, "finished"},
                                       {State::stopped_early, "stopped early"},
                                       {State::interrupted, "interrupted"},
                                       {State::failed, "failed"}});
  }

  /// `folder` must live as long.
  RunReport(const RunFolder& folder, ReportFacts facts);

  /// Writes it for somebody who watches the run, unless the last one is so recent that reports
  /// would take more than 1/kMaxShare of the time. Throws std::runtime_error.
  void update(const Progress& progress, const std::vector<SkippedFile>& skipped);
  static constexpr int kMaxShare = 100;

  /// Writes it in any case. `message` says why the run ended, where that needs saying.
  void write(State state, const Progress& progress, const std::vector<SkippedFile>& skipped,
             const std::string& message = "");

private:
  using Clock = std::chrono::steady_clock;

  const RunFolder& folder_;
  ReportFacts facts_;
  CutSamples cut_;  // so that no picture is read twice
  Clock::time_point written_at_{};
  Clock::duration cost_{0};
};

}  // namespace convae
