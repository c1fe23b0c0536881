#pragma once

#include "convae/app/options/binding.h"

#include <array>
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

/// One option: a flag, a TOML key, and the member of Options they set.
struct OptionSpec {
  Group group;
  std::string name;        ///< "batch-size", as flag and as key
  std::string commands;    ///< that take it, separated by blanks; "": a key alone, no flag
  std::string value_name;  ///< "N"
  Binding value;
  std::string help;
  std::string letter = {};  ///< "o" for -o

  std::string get(const Options& options) const { return value.get(options); }
  bool is_switch() const { return value.kind == ValueKind::boolean; }
};

/// Every option of every command, in the order of the documentation.
const std::vector<OptionSpec>& option_table();

/// Those of a command, or of a TOML table.
std::vector<const OptionSpec*> options_of(std::string_view command);
std::vector<const OptionSpec*> options_of(Group group);

/// Their names.
template <typename CommandOrGroup>
std::vector<std::string> option_names(const CommandOrGroup& of) {
  std::vector<std::string> names;
  for (const OptionSpec* option : options_of(of)) names.push_back(option->name);
  return names;
}

/// The option of that name among them, or nullptr.
template <typename CommandOrGroup>
const OptionSpec* find_option(const CommandOrGroup& of, std::string_view name) {
  for (const OptionSpec* option : options_of(of)) {
    if (option->name == name) return option;
  }
  return nullptr;
}

}  // namespace convae::app
