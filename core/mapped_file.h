#pragma once

#include "convae/core/files.h"

#include <cstdint>
#include <span>

namespace convae {

/// The bytes of a regular file, or of the part of it that was opened, read from the disk as they
/// are looked at. Throws std::runtime_error where they cannot be. The file must not become shorter
/// meanwhile: the system ends a process that looks beyond its end.
class MappedFile {
public:
  explicit MappedFile(InputFile file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::uint8_t> bytes() const { return {memory_ + before_, mapped_ - before_}; }

  /// Lets go of the memory that holds what was looked at; it may be looked at again.
  void let_go() const;

private:
  InputFile file_;
  std::size_t before_;  ///< bytes between the start of a page and that of the part
  std::size_t mapped_;  ///< with these
  const std::uint8_t* memory_ = nullptr;
};

}  // namespace convae
