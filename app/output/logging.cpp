#include "convae/app/output/logging.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace convae::app {
namespace {

spdlog::level::level_enum level_of(const RunOptions& options) {
  const auto level = spdlog::level::from_str(to_string(options.log_level));
  return options.quiet ? std::max(level, spdlog::level::warn) : level;
}

}  // namespace

void start_logging(const RunOptions& options) {
  const auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  console->set_pattern("%H:%M:%S %^%l%$: %v");
  auto logger = std::make_shared<spdlog::logger>("convae", console);
  logger->set_level(level_of(options));
  // A log that cannot be written (a full disk) is no reason to fail, nor worth a line each time:
  // the run says itself what it could not save.
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(logger);
}

}  // namespace convae::app
