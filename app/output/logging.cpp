#include "convae/app/output/logging.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <sstream>

namespace convae::app {
namespace {

std::ostringstream early_lines;  // until log_to_file() knows where they belong
std::shared_ptr<spdlog::sinks::sink> early_sink;
std::shared_ptr<spdlog::sinks::sink> file_sink;

spdlog::level::level_enum level_of(const RunOptions& options) {
  return options.quiet ? spdlog::level::warn : spdlog::level::from_str(options.log_level);
}

}  // namespace

void start_logging(const RunOptions& options) {
  auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  console->set_pattern("%H:%M:%S %^%l%$: %v");
  console->set_level(level_of(options));
  early_sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(early_lines);
  early_sink->set_pattern("%Y-%m-%d %H:%M:%S %l: %v");
  auto logger =
      std::make_shared<spdlog::logger>("convae", spdlog::sinks_init_list{console, early_sink});
  logger->set_level(spdlog::level::from_str(options.log_level));
  // A log that cannot be written (a full disk) is no reason to fail, nor worth a line each time:
  // the run says itself what it could not save.
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(logger);
}

void log_to_file(const std::filesystem::path& path) {
  auto& sinks = spdlog::default_logger()->sinks();
  sinks.erase(std::find(sinks.begin(), sinks.end(), early_sink));
  auto file =
      std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string(), /*truncate=*/false);
  // The lines so far carry their own time and end.
  std::string lines = early_lines.str();
  if (!lines.empty()) lines.pop_back();
  if (!lines.empty()) {
    file->set_pattern("%v");
    file->log(spdlog::details::log_msg("", spdlog::level::info, lines));
  }
  file->set_pattern("%Y-%m-%d %H:%M:%S %l: %v");
  sinks.push_back(file);
  file_sink = file;
  spdlog::default_logger()->flush_on(spdlog::level::info);
}

void log_failure(const std::string& message) {
  if (!file_sink) return;
  try {
    file_sink->log(spdlog::details::log_msg("", spdlog::level::err, message));
    file_sink->flush();
  } catch (const spdlog::spdlog_ex&) {
    // The reason may be that there is no room to write to.
  }
}

}  // namespace convae::app
