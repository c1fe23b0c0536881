#pragma once

#include "convae/core/api.h"
#include "convae/core/descriptor.h"
#include "convae/core/text.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace CONVAE_API convae {

/// Of the name of a file in a folder, on every usual file system.
inline constexpr std::size_t kMaxNameBytes = 255;

/// A regular file that is open for reading. Folders, pipes, sockets and devices are refused without
/// being opened, so a fifo never blocks the program. Throws std::runtime_error with the file and
/// the reason (missing, unreadable, not a regular file, larger than `max_bytes`); PassingError
/// where another try may succeed.
class InputFile {
public:
  explicit InputFile(std::filesystem::path path, std::int64_t max_bytes = std::int64_t{1} << 40);

  std::int64_t size() const { return size_; }
  int descriptor() const { return descriptor_.get(); }  ///< for as long as this lives
  /// Reads `count` bytes from `at` on, fewer at the end, and returns their number.
  std::int64_t read_at(std::int64_t at, void* to, std::int64_t count) const;
  /// Turns the system's reading ahead off for this file.
  void expect_few_reads() const;
  /// Restricts this to a part of the file, such as a member of an archive; offsets then count from
  /// its start. Throws where the file ends before that part does.
  void narrow(std::int64_t offset, std::int64_t size);
  const std::filesystem::path& path() const { return path_; }
  std::int64_t offset() const { return offset_; }  ///< in the file: where the part begins

private:
  std::filesystem::path path_;
  Descriptor descriptor_;
  std::int64_t offset_ = 0;
  std::int64_t size_ = 0;
  bool is_part_ = false;
};

/// Reads a whole file, or the part of it that was opened; throws like InputFile.
std::vector<std::uint8_t> read_file(const InputFile& file,
                                    std::int64_t max_bytes = std::int64_t{1} << 40);
std::vector<std::uint8_t> read_file(const std::filesystem::path& path,
                                    std::int64_t max_bytes = std::int64_t{1} << 40);

/// The same as text.
std::string read_text(const std::filesystem::path& path,
                      std::int64_t max_bytes = std::int64_t{1} << 40);

/// Whether a process that was killed while writing left it behind: an AtomicFile's temporary one.
bool is_unfinished(const std::filesystem::path& file);

/// A file that appears under its name complete or not at all: bytes go to a temporary file in the
/// same folder; commit() flushes them to the disk (fsync), renames it and flushes the folder.
/// Without commit() the destructor removes it. It replaces a file that was there before it, and
/// none that came meanwhile. Failures throw std::runtime_error with the final path and the system's
/// reason.
class AtomicFile {
public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* bytes, std::size_t count);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// At a place of the file, and from there on; what lies between is zeros.
  void write_at(std::uint64_t at, const void* bytes, std::size_t count);
  /// What was written before.
  void read_at(std::uint64_t at, void* to, std::size_t count);
  /// Leaves out what comes after the first `size` bytes.
  void cut(std::uint64_t size);
  void commit();

private:
  [[noreturn]] void fail(const char* action) const;
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool replaces_ = false;
  int descriptor_ = -1;
  int unfinished_ = -1;  // its place among those removed at a sudden end
};

/// Ends the process at once and removes the temporary files of all AtomicFiles, whatever threads
/// write them. For signal handlers: async-signal-safe.
[[noreturn]] void exit_without_unfinished_files(int code) noexcept;

/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);
void write_file(const std::filesystem::path& path, std::string_view text);

}  // namespace convae
