#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace convae::app {

/// Names for the results of a command, below one folder: each input gets an output of its own,
/// nothing leaves the folder, and nothing that exists is replaced unless that was asked for.
class OutputFolder {
public:
  /// Throws std::runtime_error where `root` exists and is no folder.
  OutputFolder(std::filesystem::path root, bool overwrite);

  /// Tells of all inputs at once, before names are reserved: folders that their results will be in
  /// are not given away as names of files.
  void expect(const std::vector<std::string>& input_names, const std::string& subfolder = "");

  /// Reserves the name for an input's result: its relative name with `extension` instead of its
  /// own; where an earlier input has that already, with `extension` after its own ("a.jpg.png").
  /// Returns the relative name. Throws std::runtime_error if the file exists and may not be
  /// replaced.
  std::string reserve(const std::string& input_name, std::string_view extension,
                      const std::string& subfolder = "");

  /// Reserves exactly this relative name.
  std::string reserve_exact(const std::string& name);

  /// The path to write a reserved name to; its folder exists then.
  /// Throws std::runtime_error where a link would lead out of the folder.
  std::filesystem::path prepare(const std::string& name);

  const std::filesystem::path& root() const { return root_; }

private:
  std::filesystem::path root_;
  bool overwrite_;
  std::set<std::string> reserved_;
  std::set<std::string> folders_;
};

}  // namespace convae::app
