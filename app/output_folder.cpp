#include "app/output_folder.h"

#include "data/file_io.h"

#include <stdexcept>
#include <system_error>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

/// "a/b.jpg" → "a/b".
std::string without_extension(const std::string& name) {
  const std::size_t slash = name.rfind('/');
  const std::size_t dot = name.rfind('.');
  const std::size_t start = slash == std::string::npos ? 0 : slash + 1;
  return dot == std::string::npos || dot <= start ? name : name.substr(0, dot);
}

bool lies_below(const fs::path& path, const fs::path& root) {
  const auto [end, ignored] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return end == root.end();
}

}  // namespace

std::string OutputFolder::reserve(const std::string& input_name, std::string_view extension,
                                  const std::string& subfolder) {
  const std::string prefix = subfolder.empty() ? "" : subfolder + "/";
  std::string name = prefix + without_extension(input_name) + std::string(extension);
  if (reserved_.count(name) > 0) name = prefix + input_name + std::string(extension);
  for (int number = 2; reserved_.count(name) > 0; ++number) {
    name = prefix + input_name + "." + std::to_string(number) + std::string(extension);
  }
  return reserve_exact(name);
}

std::string OutputFolder::reserve_exact(const std::string& name) {
  std::error_code error;
  if (!overwrite_ && fs::exists(fs::symlink_status(root_ / name, error))) {
    throw std::runtime_error("'" + printable((root_ / name).string()) +
                             "' exists; choose another -o or allow it with --overwrite");
  }
  reserved_.insert(name);
  return name;
}

fs::path OutputFolder::prepare(const std::string& name) {
  const fs::path path = root_ / name;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) {
    throw std::runtime_error("cannot create the folder '" + printable(path.parent_path().string()) +
                             "': " + error.message());
  }
  const fs::path folder = fs::canonical(path.parent_path(), error);
  const fs::path root = fs::canonical(root_, error);
  if (error || !lies_below(folder, root)) {
    throw std::runtime_error("'" + printable(path.string()) + "' would be written outside '" +
                             printable(root_.string()) + "': a link there leads elsewhere");
  }
  return folder / path.filename();
}

}  // namespace convae::app
