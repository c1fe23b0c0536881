#pragma once

#include "convae/data/tar.h"

#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace convae {

/// What tar shards hold, kept in a file each from run to run. A shard whose size, times or inode
/// have changed is read again, and so is one whose file here is damaged or of another version.
class ShardIndex {
public:
  /// In the folder `where`; "": nothing is kept.
  explicit ShardIndex(std::filesystem::path where) : where_(std::move(where)) {}

  /// Several threads may call it. Throws what read_tar() throws.
  TarContents contents_of(const std::filesystem::path& shard);

  /// Keeps what had to be read. Where that fails, it is read anew next time.
  void save() const noexcept;

private:
  std::filesystem::path where_;
  std::mutex mutex_;                                  // guards what follows
  std::map<std::filesystem::path, std::string> new_;  // files to write
};

}  // namespace convae
