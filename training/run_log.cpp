#include "convae/training/run_log.h"

#include <ctime>

namespace convae {

Callbacks RunLog::noting(Callbacks callbacks) {
  Callbacks noted = callbacks;
  noted.info = [this, info = std::move(callbacks.info)](const std::string& line) {
    note("info", line);
    if (info) info(line);
  };
  noted.warning = [this, warning = std::move(callbacks.warning)](const std::string& line) {
    note("warning", line);
    if (warning) warning(line);
  };
  return noted;
}

void RunLog::note(const char* level, const std::string& line) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char time[32];
  std::strftime(time, sizeof time, "%Y-%m-%d %H:%M:%S ", &local);
  const std::string text = std::string(time) + level + ": " + line + "\n";
  const std::lock_guard lock(mutex_);
  if (file_) {
    std::fputs(text.c_str(), file_.get());
  } else {
    early_ += text;
  }
}

void RunLog::open(const std::filesystem::path& path) {
  const std::lock_guard lock(mutex_);
  file_.reset(std::fopen(path.c_str(), "ae"));
  if (!file_) return;
  std::setvbuf(file_.get(), nullptr, _IONBF, 0);  // a line is there as soon as it is said
  std::fputs(early_.c_str(), file_.get());
}

}  // namespace convae
