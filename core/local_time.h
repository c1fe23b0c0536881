#pragma once

#include <fmt/chrono.h>

#include <ctime>
#include <string>

namespace convae {

/// "2026-11-30 03:12:45"
inline std::string local_time() {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(std::time(nullptr)));
}

}  // namespace convae
