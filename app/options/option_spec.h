#pragma once

#include "convae/app/options/options.h"

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace convae::app {

/// The TOML table of an option; `call` has none.
enum class Group { data, model, train, run, call };
constexpr auto names(Group) {
  return std::to_array<Name<Group>>({{Group::data, "data"},
                                     {Group::model, "model"},
                                     {Group::train, "train"},
                                     {Group::run, "run"},
                                     {Group::call, "call"}});
}

/// How a value is written in TOML: as a string and nothing else, as a text that may look like a
/// number or a list, …
enum class ValueKind { string, text, integer, number, boolean };

/// One option: its name as a flag and a TOML key, and the member of Options it is bound to.
struct OptionSpec {
  Group group;
  std::string name;        ///< "batch-size"
  std::string flags;       ///< as cxxopts wants them: "batch-size" or "o,output"
  std::string commands;    ///< blank-separated names of the commands that take it
  std::string value_name;  ///< "N"; empty for switches
  std::string help;
  ValueKind kind;
  std::vector<std::string> choices;  ///< all valid values, where there is a fixed list
  /// Throws UsageError saying what was expected; the caller adds where the value came from.
  std::function<void(Options&, const std::string&)> set;
  std::function<std::string(const Options&)> get;

  std::string flag() const;  ///< the long flag, without dashes
  bool is_for(std::string_view command) const;
};

}  // namespace convae::app
