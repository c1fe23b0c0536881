#pragma once

#include "convae/app/options/options.h"

#include <set>
#include <string>
#include <vector>

namespace convae::app {

/// A command's words, read.
struct CommandLine {
  std::string command;
  std::vector<std::string> words;     ///< all of them, `command` first
  std::vector<std::string> operands;  ///< words that are not options: interpolate A B
  Options options;
  std::set<std::string> given;  ///< options named by flags or in the file of --config
  bool help = false;            ///< --help was among them; `options` is not filled in then

  bool has(const std::string& option) const { return given.contains(option); }
};

/// What a command starts from: only runs have a place of their own to go to.
Options defaults_of(const std::string& command);

/// Reads `convae COMMAND [options]` (words after the program's name): defaults, then the file of
/// --config, then flags. `base` are the options to start from instead of the defaults (a resumed
/// run's). Throws OptionError naming the option, the value and the nearest valid one.
CommandLine read_command_line(const std::vector<std::string>& words,
                              const Options& base = Options{});

/// Help for `convae --help` (command empty) or `convae COMMAND --help`.
std::string help_text(const std::string& command);

}  // namespace convae::app
