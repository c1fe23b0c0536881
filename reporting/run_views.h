#pragma once

#include "convae/app/options/options.h"
#include "convae/reporting/event_file.h"
#include "convae/reporting/report.h"

#include <optional>
#include <string>
#include <vector>

namespace convae::app {

/// What people look at while a run goes on: report.html and, where asked for, TensorBoard's events.
/// None of it ever ends a run: what cannot be written is a warning.
class RunViews {
public:
  /// `folder` must live as long; `input` is the size most images have.
  RunViews(const RunFolder& folder, const Options& options, std::int64_t epochs, Size input);

  /// Before the first step of this process.
  void begin(const Progress& progress, const std::vector<SkippedFile>& skipped);
  void note_epoch(const MetricsRow& row, const Progress& progress,
                  const std::vector<SkippedFile>& skipped);
  /// `message` says why the run ended, where that needs saying.
  void end(RunReport::State state, const Progress& progress,
           const std::vector<SkippedFile>& skipped, const std::string& message = "");

private:
  void add_events(const MetricsRow& row);

  const RunFolder& folder_;
  bool tensorboard_;
  std::optional<RunReport> report_;
  std::optional<EventFile> events_;
};

/// The program's words as they can be given to a shell again.
std::string shell_command(const std::vector<std::string>& words);

}  // namespace convae::app
