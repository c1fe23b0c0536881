#pragma once

#include "convae/data/image_entries.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace convae {

/// What the headers of a folder's images say, kept in a file from run to run. A file whose size,
/// times or inode have changed is not known any more; neither is a member of such a shard.
class HeaderIndex {
public:
  /// Of the images below `data`, in the folder `where`; "": nothing is kept. A file that is damaged
  /// or of another version of convae counts as empty. It stays on the disk: after its digest is
  /// checked, what is looked up is read.
  HeaderIndex(const std::filesystem::path& where, const std::filesystem::path& data);

  /// What one file, or a shard, is known by; 0 where it cannot be looked at.
  static std::uint64_t stamp(const std::filesystem::path& file);

  /// nullopt: not known.
  std::optional<ImageInfo> find(std::string_view name, std::uint64_t stamp) const;

  /// Keeps these, sorted by name, but for those with the stamp 0; and what was kept of other files
  /// that are still there. Where that fails, headers are read anew next time.
  void save(const ImageFiles& files, const std::vector<std::uint64_t>& stamps,
            const ImageInfos& infos) const noexcept;

private:
  struct Record;
  class Kept;
  class Keeper;
  std::filesystem::path data_;
  std::filesystem::path path_;        // empty: nothing is kept
  std::string title_;                 // how the file begins
  std::shared_ptr<const Kept> kept_;  // none: nothing is known
};

/// Where the headers of a checkpoint's images are kept: beside its run.
std::string index_beside_run(const std::filesystem::path& checkpoint);

}  // namespace convae
