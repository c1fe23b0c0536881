#pragma once

#include "convae/core/text.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace convae {

/// Reads a whole regular file. Folders, pipes, sockets and devices are refused without being
/// opened for reading, so a fifo in the way can never block the program.
/// Throws std::runtime_error naming the file and the reason (missing, unreadable, not a regular
/// file, larger than `max_bytes`).
std::vector<std::uint8_t> read_file(const std::filesystem::path& path,
                                    std::int64_t max_bytes = std::int64_t{1} << 40);

/// The same as text.
std::string read_text(const std::filesystem::path& path,
                      std::int64_t max_bytes = std::int64_t{1} << 40);

/// A file that appears under its final name complete or not at all: bytes go to a temporary
/// name in the same folder; commit() flushes them to the disk (fsync), renames and flushes the
/// folder. Without commit() the destructor removes the temporary file.
/// Every failure throws std::runtime_error naming the final path and the system's reason.
class AtomicFile {
public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* bytes, std::size_t count);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

private:
  [[noreturn]] void fail(const char* action) const;
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  int unfinished_ = -1;  // its place among those taken away at a sudden end
};

/// Ends the process at once, without the temporary files of the AtomicFiles there are, whatever
/// threads they are written on. For signal handlers: async-signal-safe.
[[noreturn]] void exit_without_unfinished_files(int code) noexcept;

/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);
void write_file(const std::filesystem::path& path, std::string_view text);

}  // namespace convae
