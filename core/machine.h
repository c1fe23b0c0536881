#pragma once

#include <cstdint>
#include <string>

namespace convae {

/// What a process has of a machine on which several work at one job.
struct MachineShare {
  std::int64_t processes = 1;  ///< of the job on this machine, this one included
  double cores = 0;            ///< of those its affinity allows; 0: all of them
};

/// From now on the numbers of cores and bytes below are those of this share.
void share_machine(const MachineShare& share);

/// Number of cores that this process may use, by its affinity, the CPU quotas of its control groups
/// (see group_limits()) and its share of the machine; at least 1.
std::int64_t available_cores();

/// Free memory in bytes: MemAvailable of /proc/meminfo, or less where a control group has less
/// left; 0: unknown.
std::int64_t free_memory_bytes();

/// Memory of the machine in bytes, or the limit of a control group where that is less: unlike what
/// is free, it does not change; 0: unknown.
std::int64_t memory_limit_bytes();

/// So many bytes the process has, but for use by what comes next: they count as free.
void count_as_free(std::int64_t bytes);

/// From now on the process keeps to that many bytes: what is free is what it has not taken of them,
/// if the machine has more. 0: no limit.
void limit_memory(std::int64_t bytes);

/// Where there is such a limit, for a message that `needed` bytes are more than is free: " within
/// --memory 1G (--memory 2G would do)"; empty without one.
std::string limit_text(double needed);

/// Number of threads that read or write images: `workers`, or one a core for -1.
std::int64_t worker_count(std::int64_t workers);

/// Sets the number of compute threads of the process, 0 to 4096, and returns it. 0: what the
/// environment's OMP_NUM_THREADS says, else one a core.
std::int64_t use_threads(std::int64_t threads);

}  // namespace convae
