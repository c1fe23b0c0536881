#include "convae/data/folder.h"

#include "convae/core/files.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace convae {
namespace fs = std::filesystem;
namespace {

// GIF is listed so that reading refuses it with a reason instead of silently ignoring it.
constexpr std::array<std::string_view, 10> kExtensions = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"};

bool has_image_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::ranges::find(kExtensions, extension) != kExtensions.end();
}

/// Adds the images below `path`; their names begin with `prefix`.
void list_folder(const fs::path& path, const std::string& prefix, ImageFolder& folder,
                 std::error_code& error) {
  fs::directory_iterator entries(path, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const fs::directory_entry& entry = *entries;
    const std::string file_name = entry.path().filename().string();
    const std::string name = prefix + file_name;
    if (file_name.starts_with('.')) continue;  // hidden
    std::error_code failure;
    const fs::file_status own = entry.symlink_status(failure);
    if (!failure && fs::is_directory(own)) {
      list_folder(entry.path(), name + "/", folder, failure);
      if (failure) {
        folder.skipped.push_back({name, "the folder cannot be read: " + failure.message()});
      }
      continue;
    }
    if (!has_image_extension(entry.path())) continue;
    const fs::file_status target = entry.status(failure);
    if (!failure && fs::is_regular_file(target)) {
      folder.files.push_back({name, entry.path()});
    } else if (fs::is_symlink(own) && (failure || !fs::exists(target))) {
      folder.skipped.push_back({name, "the link leads nowhere"});
    } else if (fs::is_symlink(own) && fs::is_directory(target)) {
      folder.skipped.push_back({name, "a link to a folder; such links are not followed"});
    } else {
      folder.skipped.push_back({name, failure ? failure.message() : "not a regular file"});
    }
  }
}

}  // namespace

ImageFolder list_images(const fs::path& root) {
  std::error_code error;
  const fs::file_status status = fs::status(root, error);
  if (!fs::exists(status)) {
    throw std::runtime_error("the folder " + in_quotes(root) + " does not exist");
  }
  if (fs::is_regular_file(status)) {
    return {root.parent_path(), {{root.filename().string(), root}}, {}};
  }
  if (!fs::is_directory(status)) throw std::runtime_error(in_quotes(root) + " is not a folder");
  ImageFolder folder{root, {}, {}};
  list_folder(root, "", folder, error);
  if (error) {
    throw std::runtime_error("cannot read the folder " + in_quotes(root) + ": " + error.message());
  }
  std::ranges::sort(folder.files, {}, &ImageFile::name);
  std::ranges::sort(folder.skipped, {}, &SkippedFile::name);
  return folder;
}

fs::path training_folder(const fs::path& root) {
  std::error_code error;
  const fs::path good = root / "train" / "good";
  return fs::is_directory(good, error) && fs::is_directory(root / "test", error) ? good : root;
}

std::string skipped_line(const SkippedFile& file) {
  return "skipped " + in_quotes(file.name) + ": " + printable(file.reason);
}

}  // namespace convae
