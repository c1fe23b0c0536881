#pragma once

#include <cstdint>

namespace convae {

/// Number of cores that this process may use, by its affinity and the CPU quotas of its control
/// groups; see group_limits().
std::int64_t available_cores();

/// Free memory in bytes: MemAvailable of /proc/meminfo, or less where a control group has less
/// left; 0: unknown.
std::int64_t free_memory_bytes();

/// Memory of the machine in bytes, or the limit of a control group where that is less: unlike what
/// is free, it does not change; 0: unknown.
std::int64_t memory_limit_bytes();

/// Number of threads that read or write images: `workers`, or one a core for -1.
std::int64_t worker_count(std::int64_t workers);

/// Sets the number of compute threads of the process, 0 to 4096 (0: one a core), and returns it.
std::int64_t use_threads(std::int64_t threads);

}  // namespace convae
