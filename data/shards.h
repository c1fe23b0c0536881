#pragma once

#include "convae/data/folder.h"

#include <filesystem>
#include <string>
#include <vector>

/// Tar files whose members are images, read in place; see list_images().
namespace convae {

/// Whether a file of that name is taken for a shard: .tar, or a compressed one, which is refused.
bool is_shard_name(const std::filesystem::path& path);

/// The shards that `data` names: one file, or those of a range such as x-{000..146}.tar, whose
/// numbers have the width they are written with. Empty where it names a folder, another file or
/// nothing that there is. Throws OptionError for a range that runs backwards or is too long.
std::vector<std::filesystem::path> shards_named(const std::filesystem::path& data);

struct ShardOptions {
  const Globs& globs;
  std::string prefix, index;  ///< see list_images()
  const Callbacks& callbacks;
};

/// The images in these shards of `root`, which names them or is the folder that they are in. Throws
/// std::runtime_error where one does not exist, and Interrupted.
ImageFolder list_shards(const std::filesystem::path& root,
                        const std::vector<std::filesystem::path>& shards,
                        const ShardOptions& options);

}  // namespace convae
