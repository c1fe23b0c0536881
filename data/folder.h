#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/core/files.h"
#include "convae/data/image_files.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// The bytes of an image. Throws what InputFile throws, and std::runtime_error where the shard has
/// changed since it was listed.
InputFile open_image(const ImageFile& image);

/// A file that was left out, and why.
struct SkippedFile {
  std::string name;
  std::string reason;
  bool operator==(const SkippedFile&) const = default;
};

/// "skipped 'a.png': truncated PNG", as all jobs say it.
std::string skipped_line(const SkippedFile& file);

/// What is to be said of files: the remark, and the names of those it is about.
using Remarks = std::map<std::string, std::vector<std::string>>;
/// "'a.tif' and 3 more like it: only the first of its 3 pages is read", a line a remark.
std::vector<std::string> lines_of(const Remarks& remarks);

/// The image files below a folder, or in tar shards.
struct ImageFolder {
  std::filesystem::path root;
  ImageFiles files;                            ///< sorted by name, byte by byte
  std::vector<std::filesystem::path> folders;  ///< that were listed
  std::vector<std::filesystem::path> shards;   ///< likewise; empty where files are no members
  std::int64_t unused_members = 0;             ///< of shards: not in `files`, for whatever reason
  std::vector<SkippedFile> skipped;            ///< sorted likewise
  /// Folders that hold no images of the task, such as masks; sorted likewise.
  std::vector<SkippedFile> left_out;
  /// How many files are no images, by kind: ".txt", "without an ending", "hidden" …
  std::map<std::string, std::int64_t> passed_over;
  std::int64_t excluded = 0;           ///< images that `include` and `exclude` leave out
  std::vector<std::string> unmatched;  ///< globs that match no image, as flags: "--exclude 'x'"
  std::function<void()> keep_members = [] {};  ///< of shards, for the next run, in `index`
};

/// Which files are listed: globs over names relative to the folder, see matches_glob(). All where
/// `include` is empty; `exclude` wins.
struct Globs {
  std::vector<std::string> include, exclude;
};

/// By its ending; without one (or with one of digits), by its first bytes.
bool looks_like_image(const std::filesystem::path& path);

/// Lists the files below `root` with an image's extension (.jpg .jpeg .jpe .jfif .png .bmp .dib
/// .tif .tiff .webp .pgm .ppm .pnm .pbm .gif, any case), without opening them, and those without
/// one (or with one of digits alone) whose first bytes are an image's. Their names begin with
/// `prefix`. Links are followed, each folder once. Left out are masks (folders named so, unless a
/// glob of `include` names them) and folders of convae's own results. Pipes, devices and dangling
/// links named as images, dangling links named as shards, and unreadable folders are in `skipped`.
/// A `root` that is a regular file counts as a folder of that file, whatever its ending. Throws
/// std::runtime_error if `root` does not exist or cannot be read.
///
/// Tar shards are a `root` that names them (x.tar, x-{000..146}.tar), or a folder that holds them
/// and has no image that the globs take: their members are listed by the same rules, under their
/// names, and what lies beside them is told of as in other folders. One that several shards have
/// gets each shard's stem in front, x-001/a.png; of one that a shard has twice, the last counts.
/// Links, sparse members and names that lead out are in `skipped`, and so are shards that cannot be
/// used, or are cut, whose whole members are used; std::runtime_error is thrown where those that
/// `root` names give no member. Where the folder `index` is named, a shard that has not changed is
/// not read again. Where reading shards takes longer than a second, progress is shown ("shards"),
/// and Interrupted thrown if the job is to stop.
ImageFolder list_images(const std::filesystem::path& root, const Globs& globs = {},
                        const std::string& prefix = "", const std::string& index = "",
                        const Callbacks& callbacks = {});

/// The same of a folder or a file alone: tar files are never shards.
ImageFolder list_image_files(const std::filesystem::path& root, const Globs& globs = {});

/// Whether there is something to list: a folder, a file, or shards that `root` names.
bool has_images(const std::filesystem::path& root);
/// Throws std::runtime_error where a folder or file is not there.
void require_images(const std::filesystem::path& root);

/// Whether the folder `is` named now holds what `was` did, by their paths: one that took the place
/// of a folder that is gone does, since that was moved.
bool is_same_folder(const std::filesystem::path& is, const std::filesystem::path& was);

/// "30 .heic, 2 without an ending"; empty where nothing was passed over.
std::string passed_over_text(const ImageFolder& folder);

}  // namespace convae
