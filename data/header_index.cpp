#include "convae/data/header_index.h"

#include "convae/core/digest.h"
#include "convae/core/files.h"
#include "convae/core/version.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <iomanip>
#include <set>
#include <sstream>

namespace convae {
namespace fs = std::filesystem;
namespace {

constexpr int kStampWords = 4;
constexpr std::int64_t kMostIndexBytes = std::int64_t{1} << 30;

std::string to_line(const ImageInfo& info) {
  static_assert(sizeof(ImageInfo) == 80, "keep the new member, too");
  std::ostringstream line;
  line << static_cast<int>(info.format) << ' ' << info.height << ' ' << info.width << ' '
       << info.channels << ' ' << info.alpha << ' ' << info.bits << ' ' << info.orientation << ' '
       << info.pages << ' ' << info.premultiplied << ' ' << std::quoted(info.remark);
  return line.str();
}

bool read(std::istream& from, ImageInfo& info) {
  int format = 0;
  from >> format >> info.height >> info.width >> info.channels >> info.alpha >> info.bits >>
      info.orientation >> info.pages >> info.premultiplied >> std::quoted(info.remark);
  info.format = static_cast<ImageFormat>(format);
  return !from.fail() && format >= 0 && format < std::ssize(names(ImageFormat{}));
}

std::string key_of(const std::string& stamp, const std::string& name) {
  return stamp + " " + printable(name);
}

}  // namespace

HeaderIndex::HeaderIndex(const fs::path& where, const fs::path& data) : data_(data) {
  if (where.empty()) return;
  std::error_code ignored;
  const std::string folder = fs::weakly_canonical(data, ignored).string();
  path_ = where / (digest_of(folder) + ".txt");
  title_ = fmt::format("convae {} headers, 10 numbers, of {}", kVersion, printable(folder));
  if (!fs::exists(path_, ignored)) return;
  try {
    std::istringstream lines(read_text(path_, kMostIndexBytes));
    std::string line;
    if (!std::getline(lines, line) || line != title_) return;
    // info, a tab, the stamp and the name
    while (std::getline(lines, line)) {
      const std::size_t tab = line.find('\t');
      if (tab == std::string::npos) continue;
      std::istringstream numbers(line.substr(0, tab));
      ImageInfo info;
      if (read(numbers, info)) infos_.emplace(line.substr(tab + 1), info);
    }
  } catch (const std::exception&) {
    infos_.clear();
  }
}

std::string HeaderIndex::stamp(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return "";
  return fmt::format("{} {}.{:09} {}.{:09} {}", status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
                     status.st_ino);
}

const ImageInfo* HeaderIndex::find(const std::string& name, const std::string& stamp) const {
  const auto found = infos_.find(key_of(stamp, name));
  return found == infos_.end() ? nullptr : &found->second;
}

void HeaderIndex::save(const std::vector<Known>& all) const noexcept {
  if (path_.empty()) return;
  try {
    std::string text = title_ + "\n";
    std::set<std::string> names;
    const auto add = [&](const ImageInfo& info, const std::string& key) {
      text += to_line(info) + "\t" + key + "\n";
    };
    for (const Known& known : all) {
      names.insert(printable(known.name));
      add(known.info, key_of(known.stamp, known.name));
    }
    // A call may list a part of the folder only.
    for (const auto& [key, info] : infos_) {
      std::size_t at = 0;
      for (int words = 0; words < kStampWords; ++words) at = key.find(' ', at) + 1;
      const std::string name = key.substr(at);
      if (!names.contains(name) && fs::exists(data_ / name)) add(info, key);
    }
    fs::create_directories(path_.parent_path());
    write_file(path_, text);
  } catch (const std::exception&) {
  }
}

std::string index_beside_run(const fs::path& checkpoint) {
  // OUTPUT/NAME/weights/best.safetensors
  std::error_code ignored;
  const fs::path weights = fs::absolute(checkpoint, ignored).lexically_normal().parent_path();
  const fs::path run = weights.parent_path();
  const bool is_run = weights.filename() == "weights" && fs::exists(run / "config.toml", ignored);
  return is_run ? (run.parent_path() / ".index").string() : "";
}

}  // namespace convae
