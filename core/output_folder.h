#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace convae {

/// Throws std::runtime_error that names the folder and the reason.
[[noreturn]] void fail_to_create(const std::filesystem::path& folder, const std::error_code& error);

/// Names of a job's results in one folder: each input gets its own output, nothing is written
/// outside the folder, and existing files are replaced only with `overwrite`.
class OutputFolder {
public:
  /// Throws std::runtime_error where `root` exists and is not a folder.
  OutputFolder(std::filesystem::path root, bool overwrite);
  /// Removes the folders that were made for files that never came.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// Announces all inputs before names are reserved, so that no file takes the name of a folder
  /// that results will be in.
  void expect(const std::vector<std::string>& input_names, const std::string& subfolder = "");

  /// Reserves the name of an input's result: its relative name with `extension` instead of its own;
  /// where an earlier input has that, with `extension` after its own ("a.jpg.png"). Returns the
  /// relative name. Throws std::runtime_error if the file exists and may not be replaced.
  std::string reserve(const std::string& input_name, std::string_view extension,
                      const std::string& subfolder = "");

  /// Reserves exactly this relative name.
  std::string reserve_exact(const std::string& name);

  /// Throws std::runtime_error where one of `inputs` is at a reserved name: results must not
  /// replace what they are made of.
  void spare(const std::vector<std::filesystem::path>& inputs) const;

  /// The path to write a reserved name to, once; its folder exists then. Throws std::runtime_error
  /// where a link would lead out of the folder, or where the file has come to be meanwhile and may
  /// not be replaced.
  std::filesystem::path prepare(const std::string& name);

  /// Throws std::runtime_error where nothing can be written there, for jobs whose results come
  /// after long work. Leaves nothing.
  void require_writable() const;

  /// Whether reserve() or reserve_exact() gave this name.
  bool reserves(const std::string& name) const { return reserved_.contains(name); }

  /// Removes an earlier call's file now, so that it does not lie beside new results if this call
  /// fails. Does nothing unless files may be replaced.
  void drop(const std::string& name) const;

  const std::filesystem::path& root() const { return root_; }

private:
  void require_free(const std::string& name) const;

  std::filesystem::path root_;
  bool overwrite_;
  std::set<std::string> reserved_;
  std::set<std::string> folders_;
  std::set<std::filesystem::path> cleared_;                  // of what killed processes left
  std::set<std::filesystem::path, std::greater<>> created_;  // inner folders first
};

}  // namespace convae
