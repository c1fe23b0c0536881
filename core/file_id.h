#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>

namespace convae {

/// Device and number of a file, which stay whatever it is called.
using FileId = std::pair<std::uint64_t, std::uint64_t>;

/// Nothing where there is no such file. `follows`: of what a link leads to, not of the link.
inline std::optional<FileId> file_id(const std::filesystem::path& path, bool follows = true) {
  struct stat info {};
  if ((follows ? ::stat(path.c_str(), &info) : ::lstat(path.c_str(), &info)) != 0) return {};
  return FileId(info.st_dev, info.st_ino);
}

}  // namespace convae
