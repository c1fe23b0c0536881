#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/data/folder.h"
#include "convae/data/options.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace CONVAE_API convae {

struct PackOptions {
  /// Used are data (a folder, or shards), include, exclude and skip_bad. Layouts of inspection sets
  /// do not count: all images that list_images() gives are packed.
  DataOptions images;
  std::filesystem::path output;                   ///< folder for the shards
  std::string name;                               ///< of shards: NAME-000000.tar …
  std::int64_t shard_bytes = kDefaultShardBytes;  ///< a shard's images, but at least one
  bool overwrite = false;                         ///< replace all shards of that name

  static constexpr std::int64_t kDefaultShardBytes = std::int64_t{1} << 30;

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;
};

struct PackResult {
  std::int64_t images = 0;
  std::vector<std::string> shards;  ///< their names, in order
  std::int64_t bytes = 0;           ///< of all shards
  std::vector<SkippedFile> skipped;
};

/// Copies images, as they are and in the order of their names, into plain tar shards (ustar, pax
/// where a name needs it) that every command reads in place. Owners, times and modes are the same
/// for all, so equal images give equal shards. Each shard appears complete or not at all. Throws
/// OptionError, Interrupted, and std::runtime_error where there is no image, a shard exists and
/// `overwrite` is false, shards to be packed would be replaced and with them something that is in
/// no new one, or something cannot be read (skip_bad false) or written.
PackResult pack(const PackOptions& options, const Callbacks& callbacks = {});

}  // namespace convae
