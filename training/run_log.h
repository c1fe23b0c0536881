#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/local_time.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

namespace convae {

/// train.log of a run: every line with its time. Lines from before the run has a folder are kept
/// until then. A log that cannot be written, such as on a full disk, does not end a run.
class RunLog {
public:
  /// `callbacks`, with their lines also noted here. Must not outlive the log.
  Callbacks noting(const Callbacks& callbacks) {
    Callbacks noted = callbacks;
    noted.info = [this, callbacks](const std::string& line) {
      note("info", line);
      callbacks.say(line);
    };
    noted.warning = [this, callbacks](const std::string& line) {
      note("warning", line);
      callbacks.warn(line);
    };
    return noted;
  }

  /// `level` is "info", "warning" or "error". From any thread.
  void note(const char* level, const std::string& line) {
    const std::string text = local_time() + " " + level + ": " + line + "\n";
    const std::lock_guard lock(mutex_);
    if (file_) {
      std::fputs(text.c_str(), file_.get());
    } else {
      early_ += text;
    }
  }

  void open(const std::filesystem::path& path) {
    const std::lock_guard lock(mutex_);
    file_.reset(std::fopen(path.c_str(), "ae"));
    if (!file_) return;
    std::setvbuf(file_.get(), nullptr, _IONBF, 0);  // a line is there as soon as it is said
    std::fputs(early_.c_str(), file_.get());
  }

private:
  std::mutex mutex_;
  std::string early_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, &std::fclose};
};

}  // namespace convae
