#pragma once

#include "convae/core/callbacks.h"

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
  Callbacks noting(Callbacks callbacks);

  /// `level` is "info", "warning" or "error". From any thread.
  void note(const char* level, const std::string& line);

  void open(const std::filesystem::path& path);

private:
  std::mutex mutex_;
  std::string early_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, &std::fclose};
};

}  // namespace convae
