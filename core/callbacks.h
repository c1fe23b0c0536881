#pragma once

#include "convae/core/api.h"
#include "convae/core/errors.h"

#include <cstdint>
#include <functional>
#include <string>

namespace CONVAE_API convae {

/// How a job tells its caller what is going on, and how the caller stops it. Each may be empty.
/// Jobs call them from the thread that called the job, except that `warning` may come from any
/// thread.
struct Callbacks {
  /// One line that is worth a log entry.
  std::function<void(const std::string& line)> info;
  /// One line about something the user must not miss, such as a skipped file.
  std::function<void(const std::string& line)> warning;
  /// `done` of `total` images of a stage, such as "encode".
  std::function<void(const std::string& stage, std::int64_t done, std::int64_t total)> progress;
  /// Called once, before the first file is written.
  std::function<void()> before_writing;
  /// Asked between images or batches; true ends the job with Interrupted.
  std::function<bool()> should_stop;
  /// Asked between steps of training; true saves the run, which goes on.
  std::function<bool()> should_save;

  void say(const std::string& line) const {
    if (info) info(line);
  }
  void warn(const std::string& line) const {
    if (warning) warning(line);
  }
  void show(const std::string& stage, std::int64_t done, std::int64_t total) const {
    if (progress) progress(stage, done, total);
  }
  void begin_writing() const {
    if (before_writing) before_writing();
  }
  bool stopped() const { return should_stop && should_stop(); }
  /// Throws Interrupted where the job is to end, saying how far it came.
  void stop_if_asked(std::int64_t done, std::int64_t total) const {
    if (!stopped()) return;
    throw Interrupted("stopped after " + std::to_string(done) + " of " + std::to_string(total) +
                      " images");
  }
};

}  // namespace convae
