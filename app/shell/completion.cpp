#include "convae/app/shell/completion.h"

#include "convae/app/options/command_line.h"
#include "convae/app/options/option_table.h"
#include "convae/core/files.h"

#include <fmt/core.h>

namespace convae::app {
namespace {

/// What stands behind an option.
enum class Values { none, words, folders, files, anything };

Values values_of(const OptionSpec& option) {
  if (option.kind == ValueKind::boolean) return Values::none;
  if (!option.choices.empty()) return Values::words;
  // A command's own folder of results may also be a file of them.
  if (option.flag() == "output") return Values::files;
  if (option.value_name == "DIR") return Values::folders;
  if (option.value_name == "FILE" || option.value_name == "RUN") return Values::files;
  return Values::anything;
}

/// What stands behind a command that is no option.
Values operands_of(const std::string& command) {
  if (command == "info" || command == "interpolate") return Values::files;
  return command == "completion" ? Values::words : Values::none;
}

constexpr const char* kShells = "bash zsh fish";

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

/// "--output|-o"
std::string dashed(const OptionSpec& option, const char* between) {
  const std::string flag = option.flag();
  const bool has_short = flag.size() < option.flags.size();
  return "--" + flag + (has_short ? between + ("-" + option.flags.substr(0, 1)) : "");
}

std::vector<const OptionSpec*> options_of(const std::string& command) {
  std::vector<const OptionSpec*> options;
  for (const OptionSpec& option : option_table()) {
    if (option.is_for(command)) options.push_back(&option);
  }
  return options;
}

std::string command_names() {
  std::vector<std::string> names;
  for (const CommandInfo& command : command_list()) names.emplace_back(command.name);
  return joined(names, " ");
}

/// `text` with a backslash before each of `special`.
std::string escaped(const std::string& text, std::string_view special) {
  std::string result;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

// ---- bash ------------------------------------------------------------------------------------

std::string bash_values() {
  std::string cases;
  for (const OptionSpec& option : option_table()) {
    std::string reply;
    switch (values_of(option)) {
      case Values::none:
        continue;
      case Values::words:
        reply = "_convae_words '" + joined(option.choices, " ") + "'";
        break;
      case Values::folders:
        reply = "_convae_paths -d";
        break;
      case Values::files:
        reply = "_convae_paths -f";
        break;
      case Values::anything:
        reply = ":";
        break;
    }
    cases += "    " + dashed(option, "|") + ") " + reply + "; return ;;\n";
  }
  return cases;
}

std::string bash_flags() {
  std::string cases;
  for (const CommandInfo& command : command_list()) {
    std::vector<std::string> flags;
    for (const OptionSpec* option : options_of(command.name)) flags.push_back(dashed(*option, " "));
    flags.emplace_back("--help");
    cases +=
        "    " + std::string(command.name) + ") _convae_words '" + joined(flags, " ") + "' ;;\n";
  }
  return cases;
}

std::string bash_script() {
  return R"(# bash completion for convae: printed by convae completion bash
_convae_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_convae_paths() {
  compopt -o filenames
  mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}
_convae() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} is_given=
  # --lr=0.1 comes as three words
  if [[ $cur == = ]]; then
    cur= is_given=yes
  elif [[ $prev == = ]]; then
    prev=${COMP_WORDS[COMP_CWORD-2]} is_given=yes
  fi
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    _convae_words ')" +
         command_names() + R"( --help --version'
    return
  fi
  case $prev in
)" + bash_values() +
         R"(  esac
  if [[ $is_given ]]; then
    _convae_words 'true false'
    return
  fi
  case ${COMP_WORDS[1]}:$cur in
    info:[!-]*|info:|interpolate:[!-]*|interpolate:) _convae_paths -f; return ;;
    completion:[!-]*|completion:) _convae_words ')" +
         kShells + R"('; return ;;
  esac
  case ${COMP_WORDS[1]} in
)" + bash_flags() +
         R"(  esac
}
complete -F _convae convae
)";
}

// ---- zsh -------------------------------------------------------------------------------------

/// Inside single quotes and an option's brackets.
std::string zsh_text(const std::string& text) {
  std::string result;
  for (const char c : escaped(text, "\\[]:")) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result;
}

std::string zsh_action(Values values, const std::string& words) {
  switch (values) {
    case Values::words:
      return "(" + words + ")";
    case Values::folders:
      return "_files -/";
    case Values::files:
      return "_files";
    case Values::none:
    case Values::anything:
      return " ";
  }
  return "";
}

std::string zsh_option(const OptionSpec& option) {
  const std::string flag = option.flag();
  const std::string help = "[" + zsh_text(option.help) + "]";
  if (option.kind == ValueKind::boolean) {
    return "'--" + flag + "=-" + help + "::" + option.value_name + ":(true false)'";
  }
  const std::string value = ":" + option.value_name + ":" +
                            zsh_action(values_of(option), joined(option.choices, " ")) + "'";
  if (flag.size() == option.flags.size()) return "'--" + flag + "=" + help + value;
  const std::string letter = option.flags.substr(0, 1);
  return fmt::format("'(-{0} --{1})'{{-{0}+,--{1}=}}'{2}{3}", letter, flag, help, value);
}

std::string zsh_command(const CommandInfo& command) {
  std::string text = "    " + std::string(command.name) + ")\n      _arguments -S";
  for (const OptionSpec* option : options_of(command.name)) {
    text += " \\\n        " + zsh_option(*option);
  }
  text += " \\\n        '--help[show the options]'";
  const Values operands = operands_of(command.name);
  if (operands != Values::none) {
    text += " \\\n        '*:operand:" + zsh_action(operands, kShells) + "'";
  }
  return text + " ;;\n";
}

std::string zsh_script() {
  std::string commands, cases;
  for (const CommandInfo& command : command_list()) {
    commands += "    '" + std::string(command.name) + ":" + zsh_text(command.summary) + "'\n";
    cases += zsh_command(command);
  }
  return R"(#compdef convae
# zsh completion for convae: printed by convae completion zsh
_convae() {
  local -a commands=(
)" + commands +
         R"(  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
)" + cases +
         R"(  esac
}
if [[ $funcstack[1] == _convae ]]; then
  _convae "$@"
else
  compdef _convae convae
fi
)";
}

// ---- fish ------------------------------------------------------------------------------------

std::string fish_text(const std::string& text) { return "'" + escaped(text, "\\'") + "'"; }

std::string fish_value(const OptionSpec& option) {
  switch (values_of(option)) {
    case Values::none:
      return "";
    case Values::words:
      return " -x -a " + fish_text(joined(option.choices, " "));
    case Values::folders:
      return " -x -a '(__fish_complete_directories)'";
    case Values::files:
      return " -r -F";
    case Values::anything:
      return " -x";
  }
  return "";
}

std::string fish_script() {
  std::string text =
      "# fish completion for convae: printed by convae completion fish\n"
      "complete -c convae -f\n";
  for (const CommandInfo& command : command_list()) {
    text += fmt::format("complete -c convae -n __fish_use_subcommand -a {} -d {}\n", command.name,
                        fish_text(command.summary));
    const std::string condition =
        fmt::format("complete -c convae -n '__fish_seen_subcommand_from {}'", command.name);
    const Values operands = operands_of(command.name);
    if (operands == Values::files) text += condition + " -F\n";
    if (operands == Values::words) text += condition + " -a " + fish_text(kShells) + "\n";
    for (const OptionSpec* option : options_of(command.name)) {
      const bool has_short = option->flag().size() < option->flags.size();
      text += condition + (has_short ? " -s " + option->flags.substr(0, 1) : "") + " -l " +
              option->flag() + fish_value(*option) + " -d " + fish_text(option->help) + "\n";
    }
    text += condition + " -l help -d 'show the options'\n";
  }
  return text;
}

}  // namespace

std::string completion_script(const std::string& shell) {
  if (shell == "bash") return bash_script();
  if (shell == "zsh") return zsh_script();
  if (shell == "fish") return fish_script();
  throw UsageError("completion '" + printable(shell) + "': expected bash, zsh or fish");
}

}  // namespace convae::app
