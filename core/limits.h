#pragma once

#include <cstdint>
#include <filesystem>

namespace convae {

/// What the control groups of this process leave it, such as those of a container.
struct GroupLimits {
  std::int64_t free_bytes = -1;  ///< memory up to the lowest limit; -1: no limit
  std::int64_t limit_bytes = 0;  ///< the lowest limit itself; 0: no limit
  std::int64_t cores = 0;        ///< the lowest CPU quota, rounded down, at least 1; 0: no quota
};

/// Reads them from `process`/cgroup and the mounts in `process`/mountinfo: version 1, version 2 or
/// both, the process's own group and all above it. Page cache does not count as used, since the
/// system gives it up. What cannot be read sets no limit.
GroupLimits group_limits(const std::filesystem::path& process = "/proc/self");

}  // namespace convae
