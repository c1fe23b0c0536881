#include "convae/core/machine.h"

#include "convae/core/errors.h"

#include <ATen/Parallel.h>

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

namespace convae {

std::int64_t available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1U, std::thread::hardware_concurrency());
}

std::int64_t free_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::int64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes && std::getline(file, unit)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

std::int64_t use_threads(std::int64_t threads) {
  require_option(
      threads >= 0 && threads <= 4096,
      fmt::format("--threads '{}': expected a number between 0 (one a core) and 4096", threads));
  const std::int64_t count = threads > 0 ? threads : available_cores();
  at::set_num_threads(static_cast<int>(count));
  return count;
}

std::int64_t worker_count(std::int64_t workers) {
  return workers >= 0 ? workers : available_cores();
}

}  // namespace convae
