#include "convae/data/folder.h"

#include "convae/core/paths.h"
#include "convae/data/image_io.h"
#include "convae/data/listing.h"
#include "convae/data/shards.h"
#include "convae/data/tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

bool begins_as_an_image(const fs::path& path) {
  std::array<char, 16> head{};
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), head.size());
  return is_image_start({reinterpret_cast<const std::uint8_t*>(head.data()),
                         static_cast<std::size_t>(file.gcount())});
}

/// Throws where there is nothing.
fs::file_status status_of(const fs::path& root) {
  std::error_code error;
  const fs::file_status status = fs::status(root, error);
  if (fs::exists(status)) return status;
  const bool is_unknown = status.type() == fs::file_type::none;
  throw std::runtime_error(is_unknown ? "cannot read " + in_quotes(root) + ": " + error.message()
                                      : "the folder " + in_quotes(root) + " does not exist");
}

class Lister {
public:
  Lister(ImageFolder& folder, const Globs& globs) : folder_(folder), chosen_(globs) {}

  /// Tar files, which are shards where there is no image, sorted.
  const std::set<fs::path>& shards() const { return shards_; }

  void list_all(const std::string& prefix, std::error_code& error) {
    source_ = folder_.files.add_source(folder_.root, prefix.size());
    list(folder_.root, fs::canonical(folder_.root, error), prefix, error);
    // Links come after the folders themselves, which keep their own names.
    while (!links_.empty()) {
      const Folder link = *links_.begin();
      links_.erase(links_.begin());
      enter(link);
    }
    folder_.unmatched = chosen_.unmatched();
  }

private:
  struct Folder {
    std::string name;
    fs::path path, real, above;  // as it is named; without links; the folder it is in, likewise
    auto operator<=>(const Folder& other) const { return name <=> other.name; }
  };

  void list(const fs::path& path, const fs::path& real, const std::string& prefix,
            std::error_code& error) {
    listed_.insert(real);
    for (fs::directory_iterator entries(path, error); !error && entries != end(entries);
         entries.increment(error)) {
      const fs::directory_entry& entry = *entries;
      const std::string file_name = entry.path().filename().string();
      std::error_code failure;
      if (file_name.starts_with('.')) {
        ++folder_.passed_over["hidden"];
      } else if (!entry.is_directory(failure)) {
        add_file(entry, prefix + file_name);
      } else if (entry.is_symlink(failure)) {
        links_.insert(
            {prefix + file_name, entry.path(), fs::canonical(entry.path(), failure), real});
      } else {
        enter({prefix + file_name, entry.path(), real / file_name, real});
      }
    }
    if (!error) folder_.folders.push_back(path);
  }

  void enter(const Folder& folder) {
    if (const std::string reason = why_not_entered(folder); !reason.empty()) {
      folder_.left_out.push_back({folder.name, reason});
      return;
    }
    std::error_code failure;
    list(folder.path, folder.real, folder.name + "/", failure);
    if (failure) {
      folder_.skipped.push_back({folder.name, "the folder cannot be read: " + failure.message()});
    }
  }

  std::string why_not_entered(const Folder& folder) const {
    if (lies_below(folder.above, folder.real)) return "links that lead round in a loop";
    if (listed_.contains(folder.real)) return "folders that are used already";
    const std::string own_name = folder.path.filename().string();
    if (is_mask_folder(own_name, chosen_)) return "masks";
    const bool is_part = is_part_of_results(own_name) && !chosen_.names_folder(own_name) &&
                         is_folder_of_results(folder.path.parent_path());
    return is_part || is_folder_of_results(folder.path) ? "results of convae" : "";
  }

  void add_file(const fs::directory_entry& entry, const std::string& name) {
    std::error_code failure;
    const bool is_regular = entry.is_regular_file(failure);
    const auto is_lost_link = [&] { return entry.is_symlink(failure) && !entry.exists(failure); };
    const bool is_shard = is_shard_name(entry.path()), is_image = looks_like_image(entry.path());
    if (is_image && !chosen_.takes(name)) {
      ++folder_.excluded;
    } else if (is_image && is_regular) {
      folder_.files.add(name, source_);
    } else if ((is_image || is_shard) && is_lost_link()) {
      folder_.skipped.push_back({name, why_lost(failure)});
    } else if (is_image) {
      folder_.skipped.push_back({name, failure ? failure.message() : "not a regular file"});
    } else {
      const std::string ending = ending_of(entry.path());
      ++folder_.passed_over[!is_regular      ? "not a regular file"
                            : ending.empty() ? "without an ending"
                                             : ending];
      if (is_regular && is_shard) shards_.insert(entry.path());
    }
  }

  static std::string why_lost(const std::error_code& failure) {
    return failure == std::errc::permission_denied
               ? "the link cannot be followed: Permission denied"
               : "the link leads nowhere";
  }

  ImageFolder& folder_;
  Chosen chosen_;
  std::uint32_t source_ = 0;
  std::set<fs::path> listed_;  // without links
  std::set<Folder> links_;     // to folders, to be followed
  std::set<fs::path> shards_;
};

/// Shards in a folder, with what lies beside them there.
ImageFolder list_shards_in(ImageFolder folder, const std::set<fs::path>& shards,
                           const ShardOptions& options) {
  ImageFolder listed = list_shards(folder.root, {shards.begin(), shards.end()}, options);
  for (const fs::path& shard : shards) --folder.passed_over[ending_of(shard)];
  for (const auto& [kind, count] : folder.passed_over) {
    if (count > 0) listed.passed_over[kind] += count;
  }
  std::ranges::move(folder.skipped, std::back_inserter(listed.skipped));
  std::ranges::move(folder.left_out, std::back_inserter(listed.left_out));
  listed.excluded += folder.excluded;
  std::erase_if(listed.unmatched, [&](const std::string& glob) {
    return std::ranges::find(folder.unmatched, glob) == folder.unmatched.end();
  });
  listed.folders = std::move(folder.folders);
  return listed;
}

/// A folder or a file. `shards`: how tar files are listed that are there in place of images; null:
/// they are not.
ImageFolder list_files(const fs::path& root, const Globs& globs, const std::string& prefix,
                       const ShardOptions* shards) {
  const fs::file_status status = status_of(root);
  ImageFolder folder;
  if (fs::is_regular_file(status)) {
    folder.root = root.parent_path();
    Chosen chosen(globs);
    const std::string name = prefix + root.filename().string();
    if (chosen.takes(name)) {
      folder.files.add(name, folder.files.add_source(folder.root, prefix.size()));
    } else {
      ++folder.excluded;
    }
    folder.unmatched = chosen.unmatched();
    return folder;
  }
  if (!fs::is_directory(status)) throw std::runtime_error(in_quotes(root) + " is not a folder");
  folder.root = root;
  std::error_code error;
  Lister lister(folder, globs);
  lister.list_all(prefix, error);
  if (error) {
    throw std::runtime_error("cannot read the folder " + in_quotes(root) + ": " + error.message());
  }
  if (shards != nullptr && folder.files.empty() && !lister.shards().empty()) {
    folder = list_shards_in(std::move(folder), lister.shards(), *shards);
  }
  folder.files.sort();
  std::ranges::sort(folder.skipped, {}, &SkippedFile::name);
  std::ranges::sort(folder.left_out, {}, &SkippedFile::name);
  return folder;
}

}  // namespace

bool looks_like_image(const fs::path& path) {
  std::error_code failure;
  const std::string ending = ending_of(path);
  if (!ending.empty()) return is_image_ending(ending);
  return fs::is_regular_file(path, failure) && begins_as_an_image(path);
}

InputFile open_image(const ImageFile& image) {
  InputFile file(image.path);
  if (!image.is_in_shard()) return file;
  require_tar_member(file, {.name = image.name, .offset = image.offset, .size = image.size});
  file.narrow(image.offset, image.size);
  return file;
}

bool has_images(const fs::path& root) {
  if (is_there(root)) return true;
  const std::vector<fs::path> shards = shards_named(root);
  return !shards.empty() && is_there(shards[0]);
}

void require_images(const fs::path& root) {
  if (!has_images(root)) status_of(root);
}

bool is_same_folder(const fs::path& is, const fs::path& was) {
  if (is.empty() || was.empty()) return is == was;
  const auto plain = [](const fs::path& path) {
    return (absolute_path(path) / "").lexically_normal();
  };
  return plain(is) == plain(was) || !has_images(was);
}

ImageFolder list_images(const fs::path& root, const Globs& globs, const std::string& prefix,
                        const std::string& index, const Callbacks& callbacks) {
  const ShardOptions options{globs, prefix, index, callbacks};
  if (const auto shards = shards_named(root); !shards.empty()) {
    ImageFolder folder = list_shards(root, shards, options);
    const bool is_used = !folder.files.empty() || folder.unused_members > 0;
    if (is_used || folder.skipped.empty()) return folder;
    const SkippedFile& first = folder.skipped.front();
    throw std::runtime_error(in_quotes(first.name) + ": " + first.reason);
  }
  return list_files(root, globs, prefix, &options);
}

ImageFolder list_image_files(const fs::path& root, const Globs& globs) {
  return list_files(root, globs, /*prefix=*/"", /*shards=*/nullptr);
}

std::string passed_over_text(const ImageFolder& folder) {
  std::string text;
  const auto add = [&](std::int64_t count, std::string_view kind) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, kind);
  };
  for (const auto& [kind, count] : folder.passed_over) add(count, printable(kind));
  if (folder.excluded > 0) add(folder.excluded, "by --include and --exclude");
  return text;
}

std::vector<std::string> lines_of(const Remarks& remarks) {
  std::vector<std::string> lines;
  lines.reserve(remarks.size());
  for (const auto& [remark, names] : remarks) {
    const std::string others =
        names.size() == 1 ? "" : fmt::format(" and {} more like it", names.size() - 1);
    lines.push_back(fmt::format("{}{}: {}", in_quotes(names[0]), others, remark));
  }
  return lines;
}

std::string skipped_line(const SkippedFile& file) {
  return "skipped " + in_quotes(file.name) + ": " + printable(file.reason);
}

}  // namespace convae
