#include "convae/core/machine.h"

#include "convae/core/errors.h"
#include "convae/core/limits.h"
#include "convae/core/text.h"

#include <ATen/Parallel.h>

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <thread>

namespace convae {
namespace {

std::int64_t cores_of_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1U, std::thread::hardware_concurrency());
}

MachineShare share_of_machine;
std::int64_t most_memory = 0;
std::atomic<std::int64_t> kept_free = 0;

/// What the process has in memory, in bytes.
std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

/// OMP_NUM_THREADS: a number, or one a level ("4,2"); 0: it says nothing.
std::int64_t threads_of_environment() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  const std::int64_t count = text != nullptr ? std::strtoll(text, nullptr, 10) : 0;
  return count >= 1 && count <= 4096 ? count : 0;
}

/// A value of /proc/meminfo in bytes; 0: it is not there.
std::int64_t memory_of_machine(std::string_view wanted) {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::int64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes && std::getline(file, unit)) {
    if (key == wanted) return kilobytes * 1024;
  }
  return 0;
}

/// What the machine or a control group has left; 0: unknown.
std::int64_t free_on_machine() {
  const std::int64_t processes = share_of_machine.processes;
  const std::int64_t machine = memory_of_machine("MemAvailable:") / processes;
  const std::int64_t group = group_limits().free_bytes;
  if (group < 0) return machine;
  // 0 means unknown.
  const std::int64_t own = group / processes;
  return std::max<std::int64_t>(1, machine > 0 ? std::min(machine, own) : own);
}

}  // namespace

void share_machine(const MachineShare& share) { share_of_machine = share; }

std::int64_t available_cores() {
  const auto& [processes, share] = share_of_machine;
  const std::int64_t quota = group_limits().cores;
  // A third of a core thrice is one.
  const std::int64_t own =
      share > 0 ? static_cast<std::int64_t>(share + 1e-6) : cores_of_affinity();
  return std::max<std::int64_t>(1, quota > 0 ? std::min(quota / processes, own) : own);
}

void count_as_free(std::int64_t bytes) { kept_free = bytes; }

void limit_memory(std::int64_t bytes) { most_memory = bytes; }

std::string limit_text(double needed) {
  if (most_memory == 0) return "";
  constexpr double kStep = 256 << 20;
  const double would_do = static_cast<double>(resident_bytes()) + needed;
  return fmt::format(" within --memory {} (--memory {} would do)", bytes_text(most_memory),
                     bytes_text(static_cast<std::int64_t>(std::ceil(would_do / kStep) * kStep)));
}

std::int64_t free_memory_bytes() {
  const std::int64_t on_machine = free_on_machine();
  const std::int64_t left = on_machine > 0 ? on_machine + kept_free : 0;
  if (most_memory == 0) return left;
  const std::int64_t own = std::max<std::int64_t>(1, most_memory - resident_bytes() + kept_free);
  return left > 0 ? std::min(left, own) : own;
}

std::int64_t memory_limit_bytes() {
  const std::int64_t machine = memory_of_machine("MemTotal:");
  const std::int64_t group = group_limits().limit_bytes;
  const std::int64_t all =
      group > 0 && machine > 0 ? std::min(machine, group) : std::max(machine, group);
  const std::int64_t own = all / share_of_machine.processes;
  return most_memory > 0 && own > 0 ? std::min(own, most_memory) : std::max(own, most_memory);
}

std::int64_t use_threads(std::int64_t threads) {
  require_option(
      threads >= 0 && threads <= 4096,
      fmt::format(
          "--threads '{}': expected a number between 0 (OMP_NUM_THREADS, else one a core) and 4096",
          threads));
  const std::int64_t asked = threads > 0 ? threads : threads_of_environment();
  const std::int64_t count = asked > 0 ? asked : available_cores();
  at::set_num_threads(static_cast<int>(count));
  return count;
}

std::int64_t worker_count(std::int64_t workers) {
  return workers >= 0 ? workers : available_cores();
}

}  // namespace convae
