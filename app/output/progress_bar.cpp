#include "convae/app/output/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace convae::app {
namespace {

constexpr int kBarWidth = 24;
constexpr std::chrono::milliseconds kRefresh{100};

std::string clock_text(double seconds) {
  const long long whole = std::llround(seconds);
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60,
                  whole % 60);
  } else {
    std::snprintf(text, sizeof(text), "%lld:%02lld", whole / 60, whole % 60);
  }
  return text;
}

}  // namespace

ProgressBar::ProgressBar(bool enabled) : enabled_(enabled && isatty(STDERR_FILENO) != 0) {}

void ProgressBar::show(const std::string& title, std::int64_t done, std::int64_t total,
                       std::int64_t images) {
  if (!enabled_) return;
  const Clock::time_point now = Clock::now();
  if (first_done_ < 0) {
    first_done_ = done;
    first_images_ = images;
    start_ = now;
  }
  if (visible_ && now - last_shown_ < kRefresh) return;
  last_shown_ = now;
  visible_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const int filled = static_cast<int>(kBarWidth * done / std::max<std::int64_t>(total, 1));
  const std::string bar = std::string(static_cast<std::size_t>(filled), '#') +
                          std::string(static_cast<std::size_t>(kBarWidth - filled), '.');
  std::fprintf(stderr, "\r\033[K%s [%s]", title.c_str(), bar.c_str());
  // A rate needs something to measure.
  if (done > first_done_ && seconds > 0.2) {
    const double steps_per_s = static_cast<double>(done - first_done_) / seconds;
    std::fprintf(stderr, " %.1f images/s, %s left",
                 static_cast<double>(images - first_images_) / seconds,
                 clock_text(static_cast<double>(total - done) / steps_per_s).c_str());
  }
  std::fflush(stderr);
}

void ProgressBar::clear() {
  if (!visible_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  visible_ = false;
}

}  // namespace convae::app
