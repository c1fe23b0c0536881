#include "convae/core/limits.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// The number at the beginning of a file; nullopt for "max" and where there is none.
std::optional<std::int64_t> number_in(const fs::path& path) {
  std::int64_t number = 0;
  return std::ifstream(path) >> number ? std::optional(number) : std::nullopt;
}

/// The page cache of a group: `prefix` is "total_" in version 1, which counts its own apart.
std::int64_t page_cache(const fs::path& group, const std::string& prefix) {
  std::ifstream file(group / "memory.stat");
  std::string key;
  std::int64_t value = 0, sum = 0;
  while (file >> key >> value) {
    if (key == prefix + "active_file" || key == prefix + "inactive_file") sum += value;
  }
  return sum;
}

void limit_memory(GroupLimits& limits, std::optional<std::int64_t> limit,
                  std::optional<std::int64_t> used, std::int64_t cache) {
  if (!limit || !used) return;
  const std::int64_t free =
      std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, *used - cache));
  limits.limit_bytes = limits.limit_bytes == 0 ? *limit : std::min(limits.limit_bytes, *limit);
  limits.free_bytes = limits.free_bytes < 0 ? free : std::min(limits.free_bytes, free);
}

void limit_cores(GroupLimits& limits, std::int64_t quota, std::int64_t period) {
  if (quota <= 0 || period <= 0) return;
  const std::int64_t cores = std::max<std::int64_t>(1, quota / period);
  limits.cores = limits.cores == 0 ? cores : std::min(limits.cores, cores);
}

/// Files that a group does not have, such as those of another version, set no limit.
void apply_group(GroupLimits& limits, const fs::path& group) {
  limit_memory(limits, number_in(group / "memory.max"), number_in(group / "memory.current"),
               page_cache(group, ""));
  limit_memory(limits, number_in(group / "memory.limit_in_bytes"),
               number_in(group / "memory.usage_in_bytes"), page_cache(group, "total_"));
  std::int64_t quota = 0, period = 0;
  if (std::ifstream(group / "cpu.max") >> quota >> period) limit_cores(limits, quota, period);
  limit_cores(limits, number_in(group / "cpu.cfs_quota_us").value_or(0),
              number_in(group / "cpu.cfs_period_us").value_or(0));
}

/// A mounted hierarchy of groups.
struct Mount {
  std::string root;  ///< the group that is mounted
  fs::path at;
  bool version_2;
  std::string controllers;  ///< of version 1, comma-separated
};

bool has_word(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

/// proc_pid_mountinfo(5): ID parent device root mount-point options [fields] - type source options
std::vector<Mount> group_mounts(const fs::path& process) {
  std::vector<Mount> mounts;
  std::ifstream file(process / "mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line), right(line.substr(dash + 3));
    std::string skipped, root, at, type, source, options;
    left >> skipped >> skipped >> skipped >> root >> at;
    right >> type >> source >> options;
    const bool version_2 = type == "cgroup2";
    if (version_2 || type == "cgroup") mounts.push_back({root, at, version_2, options});
  }
  return mounts;
}

/// Applies the group's limits and those of all above it, up to the mount.
void apply_groups(GroupLimits& limits, const Mount& mount, const std::string& path) {
  // Within a container, a group above the mount's may be named; then only the mount is seen.
  const fs::path below = fs::path(path).lexically_relative(mount.root);
  const bool is_seen = !below.empty() && *below.begin() != "..";
  fs::path group = is_seen && below != "." ? mount.at / below : mount.at;
  while (true) {
    apply_group(limits, group);
    if (group == mount.at) return;
    group = group.parent_path();
  }
}

}  // namespace

GroupLimits group_limits(const fs::path& process) {
  GroupLimits limits;
  const std::vector<Mount> mounts = group_mounts(process);
  std::ifstream file(process / "cgroup");
  // cgroups(7): hierarchy-ID:controllers:path; without controllers in version 2
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    for (const Mount& mount : mounts) {
      const auto counts = [&](const char* name) {
        return has_word(controllers, name) && has_word(mount.controllers, name);
      };
      const bool fits = mount.version_2 ? controllers.empty() : counts("memory") || counts("cpu");
      if (fits) apply_groups(limits, mount, line.substr(second + 1));
    }
  }
  return limits;
}

}  // namespace convae
