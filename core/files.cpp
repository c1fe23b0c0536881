#include "convae/core/files.h"

#include "convae/core/errors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

namespace convae {
namespace {

// Linux moves at most 2 GiB - 4 KiB a call, and a file that is being written grows meanwhile.
constexpr std::size_t kReadBytes = std::size_t{1} << 30;

[[noreturn]] void fail_to_read(const std::filesystem::path& path, const std::string& reason) {
  throw std::runtime_error("cannot read " + printable(path.native()) + ": " + reason);
}

/// For the reason in errno.
[[noreturn]] void fail_to_read(const std::filesystem::path& path) {
  static constexpr int kPassing[] = {EIO,    EMFILE, ENFILE,    ENOMEM,
                                     ESTALE, EAGAIN, ETIMEDOUT, EHOSTDOWN};
  const bool passes = std::ranges::find(kPassing, errno) != std::end(kPassing);
  const std::string line = "cannot read " + printable(path.native()) + ": " + system_reason();
  if (passes) throw PassingError(line);
  throw std::runtime_error(line);
}

const char* kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR: return "it is a folder";
    case S_IFIFO: return "not a regular file (a pipe)";
    case S_IFSOCK: return "not a regular file (a socket)";
    case S_IFCHR:
    case S_IFBLK: return "not a regular file (a device)";
    default: return "not a regular file";
  }
}

int open_file(const std::filesystem::path& path, int flags) {
  return TEMP_FAILURE_RETRY(::open(path.c_str(), flags | O_CLOEXEC, /*mode=*/0666));
}

/// A folder that may be entered but not listed cannot be flushed, and some file systems flush no
/// folders. Neither means that the file is not there.
bool flush_folder(const std::filesystem::path& folder) {
  const Descriptor descriptor(open_file(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY));
  return descriptor.get() < 0 || ::fsync(descriptor.get()) == 0 || errno == EINVAL ||
         errno == ENOTSUP;
}

/// False, with errno, where it failed: with EEXIST where `to` is there and must not be replaced.
bool rename_to(const std::filesystem::path& from, const std::filesystem::path& to, bool replaces) {
  if (!replaces) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
      return true;
    }
    if (errno != EINVAL && errno != ENOSYS) return false;  // the file system knows how
  }
  return ::rename(from.c_str(), to.c_str()) == 0;
}

constexpr std::string_view kTemporary = ".tmp-";

/// ".<name>.tmp-<pid>-<counter>", the name shortened where the whole would be too long.
std::string temporary_name(const std::string& name) {
  static std::atomic<unsigned> counter{0};
  const auto suffix = fmt::format("{}{}-{}", kTemporary, ::getpid(), counter++);
  return "." + name.substr(0, kMaxNameBytes - 1 - suffix.size()) + suffix;
}

/// The name of a temporary file, kept where a signal handler can read it.
struct Unfinished {
  std::atomic<bool> taken = false, exists = false;
  char path[PATH_MAX] = "";
};

// More than are ever written at a time; one without a place would only be left behind.
std::array<Unfinished, 32> unfinished_files;

std::atomic<bool> ending = false;  // the process, in exit_without_unfinished_files()
std::atomic<int> being_created = 0;

[[noreturn]] void wait_for_the_end() {
  while (true) ::pause();
}

/// While it lives, this thread creates a temporary file and notes it: the end of the process waits
/// for that, and signal handlers run on other threads or later.
class Creation {
public:
  Creation() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
    ++being_created;
    if (ending) {
      --being_created;
      wait_for_the_end();
    }
  }
  ~Creation() {
    --being_created;
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  Creation(const Creation&) = delete;
  Creation& operator=(const Creation&) = delete;

private:
  sigset_t before_;
};

int note_unfinished(const std::string& path) {
  for (std::size_t i = 0; i < unfinished_files.size() && path.size() < PATH_MAX; ++i) {
    Unfinished& file = unfinished_files[i];
    if (file.taken.exchange(true)) continue;
    std::memcpy(file.path, path.c_str(), path.size() + 1);
    file.exists = true;
    return static_cast<int>(i);
  }
  return -1;
}

void forget_unfinished(int place) {
  if (place < 0) return;
  Unfinished& file = unfinished_files[static_cast<std::size_t>(place)];
  file.exists = false;
  file.taken = false;
}

}  // namespace

bool is_unfinished(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  const std::size_t suffix = name.rfind(kTemporary), last = name.rfind('-');
  if (!name.starts_with('.') || suffix == std::string::npos) return false;
  const std::size_t process = suffix + kTemporary.size();
  const std::string_view text = name;
  return last > process && parse_as<std::uint64_t>(text.substr(process, last - process)) &&
         parse_as<std::uint64_t>(text.substr(last + 1));
}

void exit_without_unfinished_files(int code) noexcept {
  ending = true;
  // Microseconds, or where a file system hangs a second.
  for (int i = 0; i < 1000 && being_created > 0; ++i) ::poll(nullptr, 0, /*milliseconds=*/1);
  for (const Unfinished& file : unfinished_files) {
    if (file.exists) ::unlink(file.path);
  }
  ::_exit(code);
}

bool tells_of_no_memory(std::string_view what) {
  constexpr std::string_view kWords[] = {"can't allocate memory", "could not create a primitive",
                                         "Failed to allocate"};
  return std::ranges::any_of(
      kWords, [&](std::string_view words) { return what.find(words) != std::string_view::npos; });
}

bool may_pass(const std::exception& error) {
  return dynamic_cast<const PassingError*>(&error) != nullptr ||
         dynamic_cast<const std::bad_alloc*>(&error) != nullptr || tells_of_no_memory(error.what());
}

InputFile::InputFile(std::filesystem::path path, std::int64_t max_bytes) : path_(std::move(path)) {
  const auto check_kind = [&](const struct stat& status) {
    if (!S_ISREG(status.st_mode)) fail_to_read(path_, kind_of(status.st_mode));
    if (status.st_size > max_bytes) {
      fail_to_read(
          path_, fmt::format("{} bytes are more than the limit of {}", status.st_size, max_bytes));
    }
  };
  struct stat status {};
  // Before opening, as opening a device or a pipe can already do something.
  if (::stat(path_.c_str(), &status) != 0) fail_to_read(path_);
  check_kind(status);
  // O_NONBLOCK: a pipe may have taken the place of the file since.
  descriptor_ = Descriptor(open_file(path_, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  if (descriptor() < 0 || ::fstat(descriptor(), &status) != 0) fail_to_read(path_);
  check_kind(status);
  size_ = status.st_size;
}

void InputFile::narrow(std::int64_t offset, std::int64_t size) {
  if (offset < 0 || size < 0 || offset > size_ || size > size_ - offset) {
    fail_to_read(path_, fmt::format("it ends at byte {}, before the {} bytes from {} on", size_,
                                    size, offset));
  }
  offset_ += offset;
  size_ = size;
  is_part_ = true;
}

std::int64_t InputFile::read_at(std::int64_t at, void* to, std::int64_t count) const {
  std::int64_t done = 0;
  if (is_part_) count = std::min(count, size_ - at);  // a whole file may have grown
  while (done < count) {
    const auto most = std::min(static_cast<std::size_t>(count - done), kReadBytes);
    const auto got = TEMP_FAILURE_RETRY(
        ::pread(descriptor(), static_cast<char*>(to) + done, most, offset_ + at + done));
    if (got < 0) fail_to_read(path_);
    if (got == 0) break;
    done += got;
  }
  return done;
}

void InputFile::expect_few_reads() const { ::posix_fadvise(descriptor(), 0, 0, POSIX_FADV_RANDOM); }

std::vector<std::uint8_t> read_file(const std::filesystem::path& path, std::int64_t max_bytes) {
  return read_file(InputFile(path, max_bytes), max_bytes);
}

std::vector<std::uint8_t> read_file(const InputFile& file, std::int64_t max_bytes) {
  const std::filesystem::path& path = file.path();
  std::vector<std::uint8_t> bytes;
  std::int64_t count = 0;
  try {
    // One more than expected: the end is then seen without a second allocation. Files in /proc
    // have contents although their size is 0.
    for (std::int64_t room = file.size() + 1; std::ssize(bytes) == count; room = 2 * count + 4096) {
      bytes.resize(static_cast<std::size_t>(room));
      count += file.read_at(count, bytes.data() + count, room - count);
      if (count > max_bytes) {
        fail_to_read(path, fmt::format("more than the limit of {} bytes", max_bytes));
      }
    }
  } catch (const std::bad_alloc&) {
    throw PassingError(fmt::format("cannot read {}: not enough memory for {} bytes",
                                   printable(path.native()), file.size()));
  }
  if (count < file.size()) {
    fail_to_read(path, fmt::format("it became shorter while it was read ({} of {} bytes)", count,
                                   file.size()));
  }
  bytes.resize(static_cast<std::size_t>(count));
  return bytes;
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  struct stat status {};
  if (!path_.has_filename()) {
    errno = path_.empty() ? ENOENT : EISDIR;
    fail("write");
  }
  replaces_ = ::lstat(path_.c_str(), &status) == 0;  // also a link that leads nowhere
  // Rename would refuse these only after the work is done, or replace them by mistake: as root,
  // /dev/null would become a file.
  if (::stat(path_.c_str(), &status) == 0) {
    if (!S_ISREG(status.st_mode)) {
      throw std::runtime_error("cannot write " + printable(path_.native()) + ": " +
                               kind_of(status.st_mode));
    }
  } else if (errno != ENOENT) {
    fail("write");
  }
  {
    const Creation creation;
    do {  // a process of the same number on another machine may share the folder
      temporary_ = path_.parent_path() / temporary_name(path_.filename().native());
      descriptor_ = open_file(temporary_, O_RDWR | O_CREAT | O_EXCL);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ >= 0) unfinished_ = note_unfinished(temporary_.native());
  }
  if (descriptor_ < 0) fail("write");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) discard();
}

void AtomicFile::discard() noexcept {
  const int reason = errno;  // of what failed before
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  ::unlink(temporary_.c_str());
  forget_unfinished(std::exchange(unfinished_, -1));
  errno = reason;
}

void AtomicFile::write(const void* bytes, std::size_t count) {
  const auto* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const auto written = TEMP_FAILURE_RETRY(::write(descriptor_, from, count));
    if (written < 0) {
      // Gone at once, so that a later commit() cannot put half a file in place.
      discard();
      fail("write");
    }
    from += written;
    count -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::write_at(std::uint64_t at, const void* bytes, std::size_t count) {
  if (::lseek(descriptor_, static_cast<off_t>(at), SEEK_SET) < 0) fail("write");
  write(bytes, count);
}

void AtomicFile::read_at(std::uint64_t at, void* to, std::size_t count) {
  const auto got = TEMP_FAILURE_RETRY(::pread(descriptor_, to, count, static_cast<off_t>(at)));
  if (got != static_cast<ssize_t>(count)) fail("read back");
}

void AtomicFile::cut(std::uint64_t size) {
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) fail("write");
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("write");
  // Network file systems report a full disk only here.
  const bool closed = ::close(std::exchange(descriptor_, -1)) == 0 || errno == EINTR;
  if (!closed || !rename_to(temporary_, path_, replaces_)) {
    discard();
    if (errno != EEXIST) fail("write");
    throw std::runtime_error(in_quotes(path_) +
                             " exists: another process has written it meanwhile");
  }
  forget_unfinished(std::exchange(unfinished_, -1));
  if (!flush_folder(path_.parent_path())) fail("flush the folder of");
}

void AtomicFile::fail(const char* action) const {
  if (ending) wait_for_the_end();  // its file is already removed
  throw std::runtime_error(
      fmt::format("cannot {} {}: {}", action, printable(path_.native()), system_reason()));
}

std::string read_text(const std::filesystem::path& path, std::int64_t max_bytes) {
  const std::vector<std::uint8_t> bytes = read_file(path, max_bytes);
  return {bytes.begin(), bytes.end()};
}

void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
  write_file(path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace convae
