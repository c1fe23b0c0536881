#pragma once

#include <cstdint>

namespace convae {

/// Cores that this process may use.
std::int64_t available_cores();

/// Threads that read images, or write them: `workers`, or one a core where that is -1.
std::int64_t worker_count(std::int64_t workers);

/// Memory that is free for this process, in bytes (/proc/meminfo, MemAvailable); 0: unknown.
std::int64_t free_memory_bytes();

}  // namespace convae
