#include "convae/core/output_folder.h"

#include "convae/core/files.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <utility>

namespace convae {
namespace fs = std::filesystem;

namespace {

/// Of processes that were killed: what is being written changes more often.
void remove_abandoned(const fs::path& folder) {
  constexpr std::chrono::hours kAbandonedAfter(1);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!is_unfinished(entry.path()) || !entry.is_regular_file(error)) continue;
    const auto age = fs::file_time_type::clock::now() - entry.last_write_time(error);
    if (!error && age > kAbandonedAfter) fs::remove(entry.path(), error);
  }
}

}  // namespace

void fail_to_create(const fs::path& folder, const std::error_code& error) {
  throw std::runtime_error("cannot create the folder " + in_quotes(folder) + ": " +
                           error.message());
}

OutputFolder::OutputFolder(fs::path root, bool overwrite)
    : root_(std::move(root)), overwrite_(overwrite) {
  std::error_code error;
  if (fs::exists(root_, error) && !fs::is_directory(root_, error)) {
    throw std::runtime_error(in_quotes(root_) + " is a file, not a folder");
  }
}

OutputFolder::~OutputFolder() {
  for (const fs::path& folder : created_) ::rmdir(folder.c_str());  // unless files are in it
}

void OutputFolder::expect(const std::vector<std::string>& input_names,
                          const std::string& subfolder) {
  for (const std::string& input : input_names) {
    const std::string name = fs::path(subfolder) / input;
    for (std::size_t slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      folders_.insert(name.substr(0, slash));
    }
  }
}

std::string OutputFolder::reserve(const std::string& input_name, std::string_view extension,
                                  const std::string& subfolder) {
  const fs::path input = fs::path(subfolder) / input_name;
  // "shot.0001" has a number, not an ending.
  const bool has_number = ending_of(input).empty() && input.extension() != ".";
  std::string name = has_number ? input.string() + std::string(extension)
                                : fs::path(input).replace_extension(extension).string();
  const auto taken = [&] { return reserved_.contains(name) || folders_.contains(name); };
  if (taken()) name = input.string() + std::string(extension);
  for (int number = 2; taken(); ++number) {
    name = fmt::format("{}.{}{}", input.string(), number, extension);
  }
  const std::size_t length = fs::path(name).filename().native().size();
  if (length > kMaxNameBytes) {
    throw std::runtime_error(fmt::format(
        "{}: its result's name would have {} bytes, more than the {} that a file's name "
        "can have; rename it or leave it out with --exclude",
        in_quotes(input_name), length, kMaxNameBytes));
  }
  return reserve_exact(name);
}

std::string OutputFolder::reserve_exact(const std::string& name) {
  if (folders_.contains(name)) {
    throw std::runtime_error(in_quotes(name) +
                             " is a folder of the input, but a file of that name is to be written");
  }
  require_free(name);
  reserved_.insert(name);
  return name;
}

void OutputFolder::require_free(const std::string& name) const {
  std::error_code error;
  const fs::file_status there = fs::symlink_status(root_ / name, error);
  if (fs::is_directory(there)) {
    throw std::runtime_error(in_quotes(root_ / name) +
                             " is a folder, but a file of that name is to be written; choose "
                             "another -o");
  }
  if (overwrite_ || !fs::exists(there)) return;
  throw std::runtime_error(in_quotes(root_ / name) +
                           " exists; choose another -o or allow it with --overwrite");
}

void OutputFolder::spare(const std::vector<fs::path>& inputs) const {
  // A link that is written to is replaced, not what it leads to.
  std::set<std::optional<FileId>> replaced;
  for (const std::string& name : reserved_) {
    replaced.insert(file_id(root_ / name, /*follows=*/false));
  }
  replaced.erase(std::nullopt);
  if (replaced.empty()) return;
  for (const fs::path& input : inputs) {
    const bool is_replaced = replaced.contains(file_id(input, /*follows=*/false)) ||
                             replaced.contains(file_id(input, /*follows=*/true));
    if (!is_replaced) continue;
    throw std::runtime_error("the result would replace " + in_quotes(input) +
                             ", which it is made of; choose another -o");
  }
}

void OutputFolder::drop(const std::string& name) const {
  std::error_code error;
  if (overwrite_ && !fs::remove(root_ / name, error) && error) {
    throw std::runtime_error("cannot replace " + in_quotes(root_ / name) + ": " + error.message());
  }
}

void OutputFolder::require_writable() const {
  fs::path file = absolute_path(root_) / "result";
  while (!is_there(file.parent_path())) file = file.parent_path();
  const AtomicFile attempt(file);
}

fs::path OutputFolder::prepare(const std::string& name) {
  const fs::path path = root_ / name;
  std::error_code error;
  const bool is_plain = path == path.lexically_normal();  // a folder before '..' stays
  for (fs::path folder = path.parent_path(); is_plain && !folder.empty() && !is_there(folder);
       folder = folder.parent_path()) {
    created_.insert(folder);
  }
  fs::create_directories(path.parent_path(), error);
  if (error) fail_to_create(path.parent_path(), error);
  if (cleared_.insert(path.parent_path()).second) remove_abandoned(path.parent_path());
  if (reserved_.contains(name)) require_free(name);  // another process may have written it
  const fs::path folder = fs::canonical(path.parent_path(), error);
  const fs::path root = fs::canonical(root_, error);
  if (error || !lies_below(folder, root)) {
    throw std::runtime_error(in_quotes(path) + " would be written outside " + in_quotes(root_) +
                             ": a link there leads elsewhere");
  }
  return folder / path.filename();
}

}  // namespace convae
