#include "convae/data/pack.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/folder_lock.h"
#include "convae/core/output_folder.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/codecs/codecs.h"
#include "convae/data/split.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <system_error>

namespace convae {
namespace fs = std::filesystem;
namespace {

std::string shard_name(const std::string& name, std::size_t number) {
  return fmt::format("{}-{:06}.tar", name, number);
}

std::int64_t bytes_to_pack(const ImageFile& image) {
  if (image.is_in_shard()) return image.size;
  std::error_code gone;
  const auto bytes = fs::file_size(image.path, gone);
  return gone ? 0 : static_cast<std::int64_t>(bytes);
}

/// Where each shard ends, as a number of images from the first.
std::vector<std::size_t> plan_shards(const ImageFiles& images, std::int64_t most) {
  std::vector<std::size_t> ends;
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const std::int64_t more = bytes_to_pack(images[i]);
    if (bytes > 0 && more > most - bytes) {
      ends.push_back(i);
      bytes = 0;
    }
    bytes += more;
  }
  ends.push_back(images.size());
  return ends;
}

/// A tar file that appears when it is committed.
class ShardWriter {
public:
  explicit ShardWriter(const fs::path& path) : file_(path) {
    ::archive_write_set_format_pax_restricted(archive_.get());
    check(::archive_write_open(archive_.get(), this, nullptr, &ShardWriter::write, nullptr));
  }

  void add(const std::string& name, std::span<const std::uint8_t> bytes) {
    const Entry entry(::archive_entry_new());
    ::archive_entry_set_pathname(entry.get(), name.c_str());
    ::archive_entry_set_size(entry.get(), std::ssize(bytes));
    ::archive_entry_set_filetype(entry.get(), AE_IFREG);
    ::archive_entry_set_perm(entry.get(), 0644);
    ::archive_entry_set_mtime(entry.get(), 0, 0);
    check(::archive_write_header(archive_.get(), entry.get()));
    const auto written = ::archive_write_data(archive_.get(), bytes.data(), bytes.size());
    if (written != std::ssize(bytes)) check(ARCHIVE_FATAL);
  }

  void commit() {
    check(::archive_write_close(archive_.get()));
    file_.commit();
  }

private:
  using Entry = codec::Handle<archive_entry, ::archive_entry_free>;

  /// A warning is that a name is no ASCII: it is written as it is, which pax has a record for.
  void check(int code) const {
    if (failure_) std::rethrow_exception(failure_);
    if (code == ARCHIVE_OK || code == ARCHIVE_WARN) return;
    const char* reason = ::archive_error_string(archive_.get());
    throw std::runtime_error(std::string("cannot write a shard: ") +
                             (reason != nullptr ? reason : "libarchive fails"));
  }

  /// Called from C, which exceptions must not pass.
  static la_ssize_t write(archive* /*archive*/, void* self, const void* bytes, std::size_t count) {
    auto& writer = *static_cast<ShardWriter*>(self);
    try {
      writer.file_.write(bytes, count);
      return static_cast<la_ssize_t>(count);
    } catch (...) {
      if (!writer.failure_) writer.failure_ = std::current_exception();  // it writes again to close
      return -1;
    }
  }

  AtomicFile file_;
  std::exception_ptr failure_;
  codec::Handle<archive, ::archive_write_free> archive_{::archive_write_new()};
};

/// A hidden folder in which a set of shards is made, so that an earlier one stays until the new one
/// is whole: its images may be what is packed. Removed at the end, with what is still in it.
/// Locked, so that one process at a time packs a set of this name.
class StagingFolder {
public:
  StagingFolder(const fs::path& output, const std::string& name)
      : path_(output / ("." + name + ".unfinished")) {
    std::error_code error;
    fs::create_directories(path_, error);
    if (error) fail_to_create(path_, error);
    lock_ = lock_folder(path_);
    if (!lock_) {
      throw std::runtime_error("another process is packing " + in_quotes(output / name) +
                               "; wait for it or choose another --name");
    }
    for (const auto& left : fs::directory_iterator(path_)) fs::remove_all(left.path());
  }
  ~StagingFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;

  const fs::path& path() const { return path_; }

private:
  fs::path path_;
  std::shared_ptr<const Descriptor> lock_;
};

class Packing {
public:
  Packing(const PackOptions& options, const Callbacks& callbacks)
      : options_(options), callbacks_(callbacks), output_(options.output, options.overwrite) {
    const DataOptions& images = options.images;
    ImageFolder listed = list_images(images.data, {images.include, images.exclude}, /*prefix=*/"",
                                     /*index=*/"", callbacks);
    tell_of(listed, callbacks);
    for (const std::string& glob : listed.unmatched) {
      callbacks.warn(unmatched_line(glob, images.data));
    }
    images_ = std::move(listed.files);
    for (const fs::path& shard : listed.shards) sources_.insert(file_id(shard));
    unused_members_ = listed.unused_members;
    for (const SkippedFile& file : listed.skipped) skip(file);
    if (images_.empty()) {
      throw std::runtime_error("no image in " + in_quotes(images.data) + " to pack");
    }
  }

  PackResult run() {
    const std::vector<std::size_t> ends = plan_shards(images_, options_.shard_bytes);
    for (std::size_t i = 0; i < ends.size(); ++i) {
      const std::string shard = output_.reserve_exact(shard_name(options_.name, i));
      if (is_there(output_.root() / shard)) replaced_.push_back(output_.root() / shard);
      result_.shards.push_back(shard);
    }
    std::vector<fs::path> others = find_others();
    replaced_.insert(replaced_.end(), others.begin(), others.end());
    spare_sources();
    callbacks_.begin_writing();
    output_.prepare(result_.shards[0]);  // makes the folder, which goes again where all fails
    const StagingFolder staging(output_.root(), options_.name);
    for (std::size_t i = 0; i < ends.size(); ++i) {
      write(staging.path() / result_.shards[i], i == 0 ? 0 : ends[i - 1], ends[i]);
    }
    if (result_.images == 0) throw std::runtime_error("none of the images could be read");
    spare_sources();  // more may have turned out to be unreadable
    for (const std::string& shard : result_.shards) {
      fs::rename(staging.path() / shard, output_.prepare(shard));
    }
    // The last first: where this ends halfway, no gap hides what is left.
    std::ranges::reverse(others);
    for (const fs::path& path : others) fs::remove(path);
    return std::move(result_);
  }

private:
  /// The rest of an earlier and larger set: it would be read as part of this one.
  std::vector<fs::path> find_others() const {
    std::vector<fs::path> others;
    std::error_code none;
    for (std::size_t number = result_.shards.size();; ++number) {
      const fs::path next = output_.root() / shard_name(options_.name, number);
      if (!fs::is_regular_file(next, none)) break;
      others.push_back(next);
    }
    if (!others.empty() && !options_.overwrite) {
      throw std::runtime_error(in_quotes(others[0]) +
                               " exists, a shard of another set; --overwrite true replaces all");
    }
    return others;
  }

  /// Where a set is packed anew in its place, the old shards may be all there is of what the new
  /// ones do not hold: what could not be read, other members, and shards that were not named.
  void spare_sources() const {
    const auto is_source = [&](const fs::path& path) { return sources_.contains(file_id(path)); };
    const auto source = std::ranges::find_if(replaced_, is_source);
    if (source == replaced_.end()) return;
    if (!result_.skipped.empty()) {
      throw std::runtime_error(
          fmt::format("{} would be replaced, but {} of the images or shards to pack could not be "
                      "read and would be lost; choose another -o",
                      in_quotes(*source), result_.skipped.size()));
    }
    if (unused_members_ > 0) {
      throw std::runtime_error(
          fmt::format("{} would be replaced, but {} members of the shards to pack are in no new "
                      "one, such as labels and excluded images, and would be lost; choose another "
                      "-o",
                      in_quotes(*source), unused_members_));
    }
    const auto other = std::ranges::find_if_not(replaced_, is_source);
    if (other == replaced_.end()) return;
    throw std::runtime_error(in_quotes(*other) +
                             " would be replaced, but is not among the shards to pack, and its "
                             "images would be lost; name all shards of the set, or choose another "
                             "-o");
  }

  void write(const fs::path& path, std::size_t begin, std::size_t end) {
    ShardWriter shard(path);
    for (std::size_t i = begin; i < end; ++i) {
      callbacks_.stop_if_asked(static_cast<std::int64_t>(i), std::ssize(images_));
      const ImageFile image = images_[i];
      if (const auto bytes = read(image)) {
        shard.add(image.name, *bytes);
        ++result_.images;
      }
      callbacks_.show("pack", static_cast<std::int64_t>(i) + 1, std::ssize(images_));
    }
    shard.commit();
    result_.bytes += static_cast<std::int64_t>(fs::file_size(path));
  }

  std::optional<std::vector<std::uint8_t>> read(const ImageFile& image) {
    try {
      auto bytes = read_file(open_image(image));
      if (bytes.empty()) throw std::runtime_error("empty file (0 bytes)");
      return bytes;
    } catch (const std::exception& error) {
      skip({image.name, error.what()});
      return std::nullopt;
    }
  }

  void skip(const SkippedFile& file) {
    if (!options_.images.skip_bad) {
      throw std::runtime_error(in_quotes(file.name) + ": " + file.reason +
                               " (--skip-bad is false)");
    }
    callbacks_.warn(skipped_line(file));
    result_.skipped.push_back(file);
  }

  const PackOptions& options_;
  const Callbacks& callbacks_;
  OutputFolder output_;
  ImageFiles images_;
  std::set<std::optional<FileId>> sources_;  // shards that the images are in
  std::int64_t unused_members_ = 0;          // of them
  std::vector<fs::path> replaced_;           // earlier shards
  PackResult result_;
};

}  // namespace

void PackOptions::validate() const {
  images.validate();
  require_option(shard_bytes > 0, "--shard-size " + std::to_string(shard_bytes) +
                                      ": expected more than 0 bytes, such as 1G");
  require_option(!name.empty() && name.find('/') == std::string::npos && !name.starts_with('.'),
                 "--name " + in_quotes(name) +
                     ": expected a plain name without '/' that does not begin with '.'");
}

PackResult pack(const PackOptions& options, const Callbacks& callbacks) {
  options.validate();
  return Packing(options, callbacks).run();
}

}  // namespace convae
