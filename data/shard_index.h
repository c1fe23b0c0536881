#pragma once

#include "convae/data/tar.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace convae {

/// What tar shards hold, kept in a file each from run to run. A shard whose size, times or inode
/// have changed is read again, and so is one whose file here is damaged or of another version.
class ShardIndex {
public:
  /// In the folder `where`; "": nothing is kept.
  explicit ShardIndex(std::filesystem::path where) : where_(std::move(where)) {}

  /// What there is to keep of a shard that had to be read; no path: nothing.
  struct New {
    std::filesystem::path file;
    std::string text;
  };
  /// Several threads may call it. Throws what read_tar() throws.
  TarContents contents_of(const std::filesystem::path& shard, New& to_keep) const;

  void add(New to_keep) {
    if (!to_keep.file.empty()) new_.push_back(std::move(to_keep));
  }
  /// Keeps what was added. Where that fails, it is read anew next time.
  void save() const noexcept;

private:
  std::filesystem::path where_;
  std::vector<New> new_;
};

}  // namespace convae
