#include "convae/reporting/report.h"

#include "convae/core/files.h"
#include "convae/reporting/page.h"
#include "convae/reporting/report_data.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace convae {

namespace {

using nlohmann::ordered_json;

// What keeps a report small, however long the run and its lists.
constexpr std::size_t kMaxRows = 500;  // of the curves
constexpr std::size_t kMaxSkipped = 200;
constexpr std::size_t kMaxCommands = 50;

ordered_json skipped_json(const std::vector<SkippedFile>& skipped) {
  ordered_json files = ordered_json::array();
  for (std::size_t i = 0; i < std::min(skipped.size(), kMaxSkipped); ++i) {
    files.push_back({printable(skipped[i].name), printable(skipped[i].reason)});
  }
  return {{"count", skipped.size()}, {"files", std::move(files)}};
}

ordered_json latest_of(const std::vector<std::string>& lines) {
  const auto count = static_cast<std::ptrdiff_t>(std::min(lines.size(), kMaxCommands));
  return std::vector<std::string>(lines.end() - count, lines.end());
}

}  // namespace

void RunReport::update(const RunStatus& run) {
  if (Clock::now() - written_at_ < kMaxShare * cost_) return;
  write(run, RunState::running);
}

void RunReport::write(const RunStatus& run, RunState state, const std::string& message) {
  const Clock::time_point start = Clock::now();
  ordered_json data = {{"name", printable(run.folder.path().filename().string())},
                       {"state", to_string(state)},
                       {"message", message},
                       {"epochs", run.epochs},
                       {"best_epoch", run.progress.best_epoch},
                       {"best_by", to_string(run.progress.best_by)},
                       {"best_value", run.progress.best_value},
                       {"skipped_steps", run.progress.skipped_steps}};
  const std::vector<MetricsRow> metrics = run.folder.read_metrics();
  data["rows"] = metrics.size();
  data["metrics"] = metrics_json(metrics, kMaxRows, run.progress.best_epoch);
  pictures_.add_to(data, run.folder);
  const ValidationTable validation = run.folder.read_validation();
  data["validation"] = {{"epoch", validation.epoch},
                        {"images", validation.images.size()},
                        {"histogram", histogram_json(validation.images)}};
  const std::vector<RatePoint> rates = run.folder.read_rate_test();
  data["rate_test"] = rate_test_json(rates, run.train.lr);
  data["model"] = model_json(run.model, run.input);
  data["commands"] = latest_of(run.folder.read_commands());
  data["config"] = read_text(run.folder.config());
  data["skipped"] = skipped_json(run.skipped);
  write_file(run.folder.report(), page_with(Page::run, std::move(data)));
  written_at_ = Clock::now();
  cost_ = written_at_ - start;
}

}  // namespace convae
