#pragma once

#include "convae/data/image_io.h"

#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace convae {

/// What the headers of a folder's images say, kept in a file from run to run. A file whose size,
/// times or inode have changed is not known any more.
class HeaderIndex {
public:
  /// Of the images below `data`, in the folder `where`; "": nothing is kept. A file that is damaged
  /// or of another version of convae counts as empty.
  HeaderIndex(const std::filesystem::path& where, const std::filesystem::path& data);

  /// What one file is known by. Empty where it cannot be looked at.
  static std::string stamp(const std::filesystem::path& file);

  /// nullptr: not known.
  const ImageInfo* find(const std::string& name, const std::string& stamp) const;

  struct Known {
    std::string name, stamp;
    ImageInfo info;
  };
  /// Keeps these, and what was kept of other files that are still there. Where that fails, headers
  /// are read anew next time.
  void save(const std::vector<Known>& all) const noexcept;

private:
  std::filesystem::path data_;
  std::filesystem::path path_;                        // empty: nothing is kept
  std::string title_;                                 // the first line
  std::unordered_map<std::string, ImageInfo> infos_;  // by stamp and name
};

/// Where the headers of a checkpoint's images are kept: beside its run.
std::string index_beside_run(const std::filesystem::path& checkpoint);

}  // namespace convae
