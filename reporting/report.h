#pragma once

#include "convae/reporting/report_pictures.h"
#include "convae/training/run_observer.h"

#include <chrono>
#include <string>

namespace convae {

/// report.html in a run's folder: one page without other files, of bounded size however long the
/// run. It is made from the folder's files alone (metrics.csv, samples/, …), so a resumed run's
/// report is complete.
class RunReport {
public:
  /// Writes it for somebody who watches the run, unless the last one is so recent that reports
  /// would take more than 1/kMaxShare of the time. Throws std::runtime_error.
  void update(const RunStatus& run);
  static constexpr int kMaxShare = 100;

  /// Writes it in any case. `message` says why the run ended, where that needs saying.
  void write(const RunStatus& run, RunState state, const std::string& message = "");

private:
  using Clock = std::chrono::steady_clock;

  ReportPictures pictures_;
  Clock::time_point written_at_{};
  Clock::duration cost_{0};
};

}  // namespace convae
