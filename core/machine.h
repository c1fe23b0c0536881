#pragma once

#include <cstdint>

namespace convae {

/// Number of cores that this process may use.
std::int64_t available_cores();

/// Number of threads that read or write images: `workers`, or one a core for -1.
std::int64_t worker_count(std::int64_t workers);

/// Free memory in bytes (MemAvailable of /proc/meminfo); 0: unknown.
std::int64_t free_memory_bytes();

}  // namespace convae
