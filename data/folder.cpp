#include "convae/data/folder.h"

#include "convae/core/files.h"
#include "convae/data/globs.h"
#include "convae/data/image_io.h"
#include "convae/data/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace convae {
namespace fs = std::filesystem;
namespace {

// GIF is listed so that reading refuses it with a reason instead of silently ignoring it.
constexpr std::array<std::string_view, 15> kExtensions = {".jpg", ".jpeg", ".jpe", ".jfif", ".png",
                                                          ".bmp", ".dib",  ".tif", ".tiff", ".webp",
                                                          ".pgm", ".ppm",  ".pnm", ".pbm",  ".gif"};

/// In lower case; "" where there is none, or one of digits alone, as numbered files have.
std::string ending_of(const fs::path& path) {
  std::string ending = path.extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool is_number = ending.find_first_not_of(".0123456789") == std::string::npos;
  return is_number ? "" : ending;
}

bool begins_as_an_image(const fs::path& path) {
  std::array<char, 16> head{};
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), head.size());
  return is_image_start({reinterpret_cast<const std::uint8_t*>(head.data()),
                         static_cast<std::size_t>(file.gcount())});
}

std::string first_line_of(const fs::path& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

/// Whether commands of this program wrote what is in the folder.
bool holds_results(const fs::path& folder) {
  std::error_code error;
  const auto has = [&](const char* name) { return fs::exists(folder / name, error); };
  return (has("config.toml") && has("weights")) || (has("scores.csv") && has("summary.json")) ||
         (has("evaluate.csv") && has("evaluate.json")) ||
         (has("samples.png") && has("sample_00001.png")) ||
         (has("strip.png") && has("step_00001.png")) ||
         (has("reconstruct.csv") &&
          first_line_of(folder / "reconstruct.csv").starts_with("path,width,height,mse,psnr,ssim"));
}

}  // namespace

bool looks_like_image(const fs::path& path) {
  std::error_code failure;
  const std::string ending = ending_of(path);
  if (!ending.empty()) return std::ranges::find(kExtensions, ending) != kExtensions.end();
  return fs::is_regular_file(path, failure) && begins_as_an_image(path);
}

namespace {

class Lister {
public:
  Lister(ImageFolder& folder, const Globs& globs)
      : folder_(folder),
        include_(globs.include.size()),
        exclude_(globs.exclude.size()),
        globs_(globs) {}

  void list_all(const std::string& prefix, std::error_code& error) {
    list(folder_.root, fs::canonical(folder_.root, error), prefix, error);
    // Links come after the folders themselves, which keep their own names.
    while (!links_.empty()) {
      const Folder link = *links_.begin();
      links_.erase(links_.begin());
      enter(link);
    }
    const auto note = [&](const char* flag, const auto& globs, const std::vector<bool>& matched) {
      for (std::size_t i = 0; i < globs.size(); ++i) {
        if (!matched[i]) folder_.unmatched.push_back(flag + in_quotes(globs[i]));
      }
    };
    note("--include ", globs_.include, include_);
    note("--exclude ", globs_.exclude, exclude_);
  }

private:
  struct Folder {
    std::string name;
    fs::path path, real;  // as it is named, and without links
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
        links_.insert({prefix + file_name, entry.path(), fs::canonical(entry.path(), failure)});
      } else {
        enter({prefix + file_name, entry.path(), real / file_name});
      }
    }
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
    std::error_code error;
    const fs::path above = fs::canonical(folder.path.parent_path(), error);
    const auto [differs, rest] =
        std::mismatch(folder.real.begin(), folder.real.end(), above.begin(), above.end());
    if (differs == folder.real.end()) return "links that lead round in a loop";
    if (listed_.contains(folder.real)) return "folders that are used already";
    const std::string own_name = folder.path.filename().string();
    const bool is_named = std::ranges::any_of(globs_.include, [&](const std::string& glob) {
      const fs::path parts = glob;
      return std::ranges::find(parts, fs::path(own_name)) != parts.end();
    });
    if (has_role(own_name, FolderRole::masks) && !is_named) return "masks";
    return holds_results(folder.path) ? "results of convae" : "";
  }

  void add_file(const fs::directory_entry& entry, const std::string& name) {
    std::error_code failure;
    const bool is_regular = entry.is_regular_file(failure);
    if (!looks_like_image(entry.path())) {
      const std::string ending = ending_of(entry.path());
      ++folder_.passed_over[!is_regular      ? "not a regular file"
                            : ending.empty() ? "without an ending"
                                             : ending];
    } else if (!is_taken(name)) {
      ++folder_.excluded;
    } else if (is_regular) {
      folder_.files.push_back({name, entry.path()});
    } else if (entry.is_symlink(failure) && !entry.exists(failure)) {
      folder_.skipped.push_back({name, "the link leads nowhere"});
    } else {
      folder_.skipped.push_back({name, failure ? failure.message() : "not a regular file"});
    }
  }

  bool is_taken(const std::string& name) {
    // All are tried, to know those that match nothing.
    const auto any = [&](const std::vector<std::string>& globs, std::vector<bool>& matched) {
      bool found = false;
      for (std::size_t i = 0; i < globs.size(); ++i) {
        if (!matches_glob(globs[i], name)) continue;
        found = matched[i] = true;
      }
      return found;
    };
    const bool included = any(globs_.include, include_) || globs_.include.empty();
    return !any(globs_.exclude, exclude_) && included;
  }

  ImageFolder& folder_;
  std::vector<bool> include_, exclude_;  // whether a glob has matched a name
  const Globs& globs_;
  std::set<fs::path> listed_;  // without links
  std::set<Folder> links_;     // to folders, to be followed
};

}  // namespace

ImageFolder list_images(const fs::path& root, const Globs& globs, const std::string& prefix) {
  std::error_code error;
  const fs::file_status status = fs::status(root, error);
  if (!fs::exists(status)) {
    throw std::runtime_error("the folder " + in_quotes(root) + " does not exist");
  }
  ImageFolder folder;
  if (fs::is_regular_file(status)) {
    folder.root = root.parent_path();
    folder.files = {{prefix + root.filename().string(), root}};
    return folder;
  }
  if (!fs::is_directory(status)) throw std::runtime_error(in_quotes(root) + " is not a folder");
  folder.root = root;
  Lister(folder, globs).list_all(prefix, error);
  if (error) {
    throw std::runtime_error("cannot read the folder " + in_quotes(root) + ": " + error.message());
  }
  std::ranges::sort(folder.files, {}, &ImageFile::name);
  std::ranges::sort(folder.skipped, {}, &SkippedFile::name);
  std::ranges::sort(folder.left_out, {}, &SkippedFile::name);
  return folder;
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
  for (const auto& [remark, names] : remarks) {
    const std::string others =
        names.size() == 1 ? "" : " and " + std::to_string(names.size() - 1) + " more like it";
    lines.push_back(in_quotes(names[0]) + others + ": " + remark);
  }
  return lines;
}

std::string skipped_line(const SkippedFile& file) {
  return "skipped " + in_quotes(file.name) + ": " + printable(file.reason);
}

}  // namespace convae
