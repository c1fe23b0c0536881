#include "convae/app/output/logging.h"

#include "convae/app/commands/commands.h"
#include "convae/core/stopwatch.h"
#include "convae/training/collective.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <mutex>
#include <utility>

namespace convae::app {
namespace {

std::string clock_text(double seconds) {
  const long long whole = std::llround(seconds);
  const std::string minutes = whole < 3600 ? std::to_string(whole / 60)
                                           : fmt::format("{}:{:02}", whole / 3600, whole / 60 % 60);
  return fmt::format("{}:{:02}", minutes, whole % 60);
}

/// One line on a terminal that shows how far a stage is: bar, images/s and the time left. Writes
/// nothing where stderr is not a terminal. By hand: Debian has no package for it, and this is all
/// that is needed.
class ProgressBar {
public:
  explicit ProgressBar(bool enabled) : enabled_(enabled && isatty(STDERR_FILENO) != 0) {}
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(const std::string& stage, std::int64_t done, std::int64_t total) {
    if (!enabled_) return;
    // Each stage has a rate of its own. Epochs are stages too, but their counts go on.
    if (done < std::exchange(last_done_, done)) first_done_ = -1;
    if (first_done_ < 0) {
      first_done_ = done;
      since_first_.restart();
    }
    if (!visible_ || since_shown_.seconds() >= 0.1) print(stage, done, total);
    if (done == total) clear();
  }

  /// Takes the line away so that other text can be written.
  void clear() {
    if (std::exchange(visible_, false)) put("\r\033[K");
  }

private:
  static void put(const std::string& text) {
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
  }

  void print(const std::string& stage, std::int64_t done, std::int64_t total) {
    since_shown_.restart();
    visible_ = true;
    total = std::max({total, done, std::int64_t{1}});
    const auto filled = static_cast<std::size_t>(24 * done / total);
    std::string line = fmt::format("\r\033[K{} [{:.<24}]", stage, std::string(filled, '#'));
    const double seconds = since_first_.seconds();
    if (done > first_done_ && seconds > 0.2) {  // a rate needs something to measure
      const double rate = static_cast<double>(done - first_done_) / seconds;
      line += fmt::format(" {:.1f} images/s, {} left", rate,
                          clock_text(static_cast<double>(total - done) / rate));
    }
    put(line);
  }

  bool enabled_;
  bool visible_ = false;
  std::int64_t first_done_ = -1;
  std::int64_t last_done_ = 0;
  Stopwatch since_first_, since_shown_;
};

}  // namespace

void start_logging(const RunOptions& options) {
  const auto level = spdlog::level::from_str(to_string(options.log_level));
  const auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  console->set_pattern("%H:%M:%S %^%l%$: %v");
  auto logger = std::make_shared<spdlog::logger>("convae", console);
  logger->set_level(options.quiet ? std::max(level, spdlog::level::warn) : level);
  // A log that cannot be written (a full disk) is no reason to fail, nor worth a line each time:
  // the run says itself what it could not save.
  logger->set_error_handler([](const std::string&) {});
  spdlog::set_default_logger(logger);
}

Callbacks program_callbacks(const RunOptions& options) {
  const auto bar = std::make_shared<ProgressBar>(!options.quiet);
  const auto terminal = std::make_shared<std::mutex>();  // warnings come from any thread
  const auto log_at = [=](spdlog::level::level_enum level) {
    return [=](const std::string& line) {
      const std::lock_guard lock(*terminal);
      bar->clear();
      spdlog::log(level, "{}", line);
    };
  };
  Callbacks callbacks = {.info = log_at(spdlog::level::info),
                         .warning = log_at(spdlog::level::warn),
                         .progress =
                             [=](const std::string& stage, std::int64_t done, std::int64_t total) {
                               const std::lock_guard lock(*terminal);
                               bar->show(stage, done, total);
                             },
                         .before_writing = stop_in_order,
                         .should_stop = [] { return stop_signal() != 0; },
                         .should_save = take_save_signal};
  if (ranks().size() > 1) callbacks.before_writing = {};
  if (!leads()) {
    callbacks.info = callbacks.warning = {};
    callbacks.progress = {};
  }
  return callbacks;
}

}  // namespace convae::app
