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

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

class Lister {
public:
  explicit Lister(fs::path root) : folder_{std::move(root), {}, {}} {}

  ImageFolder list() {
    std::error_code error;
    visit_folder(folder_.root, "", error);
    if (error) {
      throw std::runtime_error("cannot read the folder " + in_quotes(folder_.root) + ": " +
                               error.message());
    }
    std::ranges::sort(folder_.files, {}, &ImageFile::name);
    std::ranges::sort(folder_.skipped, {}, &SkippedFile::name);
    return std::move(folder_);
  }

private:
  void visit_folder(const fs::path& path, const std::string& prefix, std::error_code& error) {
    fs::directory_iterator entries(path, error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
      if (is_hidden(entries->path())) continue;
      visit_entry(*entries, prefix + entries->path().filename().string());
    }
  }

  void visit_entry(const fs::directory_entry& entry, const std::string& name) {
    std::error_code error;
    const fs::file_status own = entry.symlink_status(error);
    if (!error && fs::is_directory(own)) {
      visit_folder(entry.path(), name + "/", error);
      if (error) folder_.skipped.push_back({name, "the folder cannot be read: " + error.message()});
      return;
    }
    if (!has_image_extension(entry.path())) return;
    const fs::file_status target = entry.status(error);
    if (!error && fs::is_regular_file(target)) {
      folder_.files.push_back({name, entry.path()});
    } else if (fs::is_symlink(own) && (error || !fs::exists(target))) {
      folder_.skipped.push_back({name, "the link leads nowhere"});
    } else if (fs::is_symlink(own) && fs::is_directory(target)) {
      folder_.skipped.push_back({name, "a link to a folder; such links are not followed"});
    } else {
      folder_.skipped.push_back({name, error ? error.message() : "not a regular file"});
    }
  }

  ImageFolder folder_;
};

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
  return Lister(root).list();
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
