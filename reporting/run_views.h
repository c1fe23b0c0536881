#pragma once

#include "convae/reporting/event_file.h"
#include "convae/reporting/report.h"
#include "convae/training/run_observer.h"

#include <optional>
#include <string>

namespace convae {

/// What people look at while a run goes on: report.html and TensorBoard's events. Neither ever ends
/// a run: what cannot be written is a warning.
class RunViews : public RunObserver {
public:
  RunViews(bool report, bool tensorboard);

  void begin(const RunStatus& run) override;
  void epoch(const RunStatus& run, const MetricsRow& row, bool is_best) override;
  void end(const RunStatus& run, RunState state, const std::string& message) override;

private:
  void add_events(const RunFolder& folder, const MetricsRow& row);

  bool tensorboard_;
  std::optional<RunReport> report_;
  std::optional<EventFile> events_;
};

}  // namespace convae
