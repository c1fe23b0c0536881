#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace convae::app {

/// One line on a terminal that shows how far an epoch is: bar, images/s and the time left. Writes
/// nothing where stderr is not a terminal. By hand: Debian has no package for it, and this is all
/// that is needed.
class ProgressBar {
public:
  explicit ProgressBar(bool enabled);
  ~ProgressBar() { clear(); }

  /// `done` of `total` steps altogether; `images` seen so far, counted from anywhere.
  void show(const std::string& title, std::int64_t done, std::int64_t total, std::int64_t images);

  /// Another stage begins: rates start anew.
  void restart() { first_done_ = -1; }

  /// Takes the line away so that other text can be written.
  void clear();

private:
  using Clock = std::chrono::steady_clock;

  bool enabled_;
  bool visible_ = false;
  std::int64_t first_done_ = -1;
  std::int64_t first_images_ = 0;
  Clock::time_point start_;
  Clock::time_point last_shown_;
};

}  // namespace convae::app
