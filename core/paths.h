#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace convae {

/// Device and number of a file, which stay whatever it is called.
using FileId = std::pair<std::uint64_t, std::uint64_t>;

/// Nothing where there is no such file. `follows`: of what a link leads to, not of the link.
inline std::optional<FileId> file_id(const std::filesystem::path& path, bool follows = true) {
  struct stat info {};
  if ((follows ? ::stat(path.c_str(), &info) : ::lstat(path.c_str(), &info)) != 0) return {};
  return FileId(info.st_dev, info.st_ino);
}

/// Of an open file or folder.
inline std::optional<FileId> file_id(int descriptor) {
  struct stat info {};
  if (::fstat(descriptor, &info) != 0) return {};
  return FileId(info.st_dev, info.st_ino);
}

/// False also where it cannot be looked for.
inline bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

/// The folder that holds a file, "." where the path names none.
inline std::filesystem::path parent_folder(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

/// "folder/" → "folder": the paths of its files have no slash more than that.
inline std::filesystem::path without_last_slash(std::filesystem::path path) {
  while (!path.has_filename() && path.has_relative_path()) path = path.parent_path();
  return path;
}

/// Where a link leads, in the folder it is in: runs/latest → runs/night. Other paths stay as they
/// are. Throws std::filesystem::filesystem_error.
inline std::filesystem::path behind_link(const std::filesystem::path& path) {
  std::filesystem::path place = without_last_slash(path);
  if (!std::filesystem::is_symlink(place)) return path;
  while (std::filesystem::is_symlink(place)) {
    place = place.parent_path() / std::filesystem::read_symlink(place);
  }
  return place;
}

/// Absolute, without "." and "..". Where the latter comes after a link, it leads up from where that
/// leads.
inline std::filesystem::path absolute_path(const std::filesystem::path& path) {
  const std::filesystem::path absolute = std::filesystem::absolute(path);
  const std::filesystem::path plain = absolute.lexically_normal();
  const bool goes_up = std::find(absolute.begin(), absolute.end(), "..") != absolute.end();
  const auto id = file_id(absolute);
  if (!goes_up || (id && id == file_id(plain))) return plain;
  std::error_code error;
  const std::filesystem::path real = std::filesystem::weakly_canonical(absolute, error);
  return error ? plain : real;
}

/// Of a name, in lower case; "" where there is none, or one of digits alone, as numbered files
/// have.
inline std::string ending_of(const std::filesystem::path& name) {
  std::string ending = name.extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool is_number = ending.find_first_not_of(".0123456789") == std::string::npos;
  return is_number ? "" : ending;
}

/// A path without that ending.
inline std::string_view stem_of(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  const std::size_t slash = path.rfind('/');
  const std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
  if (dot == std::string_view::npos || dot <= begin) return path;
  const bool is_number = path.find_first_not_of(".0123456789", dot) == std::string_view::npos;
  return is_number ? path : path.substr(0, dot);
}

/// By its text alone: absolute, or with a "..".
inline bool leads_out(const std::filesystem::path& path) {
  return path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
}

/// OUTPUT/NAME of OUTPUT/NAME/weights/best.safetensors, absolute, by its text alone; empty where a
/// checkpoint lies elsewhere.
inline std::filesystem::path run_of(const std::filesystem::path& checkpoint) {
  std::error_code ignored;
  const std::filesystem::path weights =
      std::filesystem::absolute(checkpoint, ignored).lexically_normal().parent_path();
  return weights.filename() == "weights" ? weights.parent_path() : std::filesystem::path();
}

/// Whether `path` is `root` or lies inside it, by their texts alone.
inline bool lies_below(const std::filesystem::path& path, const std::filesystem::path& root) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

}  // namespace convae
