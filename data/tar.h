#pragma once

#include "convae/core/files.h"

#include <cstdint>
#include <string>
#include <vector>

/// Plain tar archives, read in place: POSIX ustar and pax, GNU and those before either.
namespace convae {

/// A member of an archive.
struct TarMember {
  enum class Kind { file, folder, link, sparse, other };  ///< other: devices, pipes, volume labels
  Kind kind = Kind::file;
  std::string name;         ///< as the archive has it
  std::int64_t offset = 0;  ///< where its bytes begin
  std::int64_t size = 0;
};

/// What an archive holds.
struct TarContents {
  std::vector<TarMember> members;  ///< those that are whole, in its order
  std::string damage;              ///< why there may be more; empty: the archive ends as it should
};

/// Reads the headers of all members, not what lies between them. Throws std::runtime_error where
/// the file is compressed or no tar at all, and what InputFile throws. By hand, since libarchive
/// does not say where in the file a member's bytes begin.
TarContents read_tar(const InputFile& file);

/// Throws std::runtime_error unless a member of that size and base name is where it was: the
/// archive was changed since it was read.
void require_tar_member(const InputFile& archive, const TarMember& member);

}  // namespace convae
