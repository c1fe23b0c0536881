#pragma once

#include "convae/data/folder.h"

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

/// The rules by which files of folders and members of shards are images of the task.
namespace convae {

/// Whether files with that ending are images. Those without one ("") have to be looked into.
bool is_image_ending(const std::string& ending);

/// What `include` and `exclude` choose, and which of their globs have matched a name.
class Chosen {
public:
  explicit Chosen(const Globs& globs)
      : globs_(globs), include_(globs.include.size()), exclude_(globs.exclude.size()) {}

  bool takes(const std::string& name);
  /// Whether a glob of `include` has a part that is this folder's own name.
  bool names_folder(const std::string& own_name) const;
  /// As flags: "--exclude 'x'".
  std::vector<std::string> unmatched() const;

private:
  const Globs& globs_;
  std::vector<bool> include_, exclude_;  // whether a glob has matched
};

/// Whether a folder is one of masks that no glob names.
bool is_mask_folder(const std::string& own_name, const Chosen& chosen);

/// Whether commands of this program wrote what is in a folder: `has` says whether it has an entry
/// of that name, `first_line` what a file of it begins with.
bool holds_results(const std::function<bool(const std::string& name)>& has,
                   const std::function<std::string(const std::string& name)>& first_line);
/// The same of a folder on the disk.
bool is_folder_of_results(const std::filesystem::path& folder);
/// Names that they ask for.
const std::set<std::string>& names_of_results();

/// A folder of pictures that lies in one of results.
bool is_part_of_results(const std::string& own_name);

}  // namespace convae
