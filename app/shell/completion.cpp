// Completion scripts, made from the list of commands and the table of options.
#include "convae/app/commands/commands.h"
#include "convae/app/options/option_table.h"

#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <sstream>

namespace convae::app {
namespace {

constexpr const char* kShells = "bash zsh fish";

/// What offers an option's values, in the words of each shell.
struct Offer {
  std::string bash, zsh, fish;
};

Offer offer_words(const std::string& words) {
  return {"_convae_words '" + words + "'", "(" + words + ")", " -x -a '" + words + "'"};
}
/// And tar shards.
const Offer kOfferFolders = {
    R"(_convae_paths -d -G "$cur*.tar")", R"(_files -g "*.tar")",
    " -x -a '(__fish_complete_directories; for tar in (commandline -ct)*.tar; echo $tar; end)'"};
const Offer kOfferFiles = {"_convae_paths -f", "_files", " -r -F"};

Offer offer_of(const OptionSpec& option) {
  if (option.is_switch()) return {};
  if (!option.value.choices.empty()) {
    return offer_words(fmt::format("{}", fmt::join(option.value.choices, " ")));
  }
  const std::string& value = option.value_name;
  // A command's own folder of results may also be a file of them.
  if (value == "FILE" || value == "RUN" || option.name == "output") return kOfferFiles;
  return value == "DIR" ? kOfferFolders : Offer{":", " ", " -x"};
}

/// The same for words that are no options.
Offer operands_of(const Command& command) {
  return command.run == run_completion ? offer_words(kShells) : kOfferFiles;
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

std::string bash_script() {
  std::string names, values, operands, flags;
  for (const OptionSpec& option : option_table()) {
    if (option.is_switch() || option.commands.empty()) continue;
    std::istringstream commands(option.commands);
    std::string pattern;
    for (std::string command; commands >> command;) {
      pattern += (pattern.empty() ? "" : "|") + command + ":--" + option.name;
      if (!option.letter.empty()) pattern += "|" + command + ":-" + option.letter;
    }
    values += fmt::format("    {}) {}; return ;;\n", pattern, offer_of(option).bash);
  }
  for (const Command& command : command_list()) {
    names += std::string(command.name) + " ";
    if (command.operands > 0) {
      operands += fmt::format("    {0}:[!-]*|{0}:) {1}; return ;;\n", command.name,
                              operands_of(command).bash);
    }
    std::string words;
    for (const OptionSpec* option : options_of(command.name)) {
      words += "--" + option->name + (option->letter.empty() ? " " : " -" + option->letter + " ");
    }
    flags += fmt::format("    {}) _convae_words '{}--help' ;;\n", command.name, words);
  }
  return R"(# bash completion for convae: printed by convae completion bash
_convae_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_convae_paths() {
  compopt -o filenames
  mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
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
         names + R"(--help --version'
    return
  fi
  case ${COMP_WORDS[1]}:$prev in
)" + values +
         R"(  esac
  if [[ $is_given ]]; then
    _convae_words 'true false'
    return
  fi
  case ${COMP_WORDS[1]}:$cur in
)" + operands +
         R"(  esac
  case ${COMP_WORDS[1]} in
)" + flags +
         R"(  esac
}
complete -F _convae convae
)";
}

/// Inside single quotes and an option's brackets.
std::string zsh_text(const std::string& text) {
  std::string result;
  for (const char c : escaped(text, "\\[]:")) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result;
}

std::string zsh_option(const OptionSpec& option) {
  const std::string help = "[" + zsh_text(option.help) + "]";
  if (option.is_switch()) return fmt::format("'--{}=-{}::BOOL:(true false)'", option.name, help);
  const std::string flags = option.letter.empty() ? "'--" + option.name + "="
                                                  : fmt::format("'(-{0} --{1})'{{-{0}+,--{1}=}}'",
                                                                option.letter, option.name);
  return fmt::format("{}{}:{}:{}'", flags, help, option.value_name, offer_of(option).zsh);
}

std::string zsh_script() {
  std::string commands, cases;
  for (const Command& command : command_list()) {
    commands += fmt::format("    '{}:{}'\n", command.name, zsh_text(command.summary));
    cases += fmt::format("    {})\n      _arguments -S", command.name);
    for (const OptionSpec* option : options_of(command.name)) {
      cases += " \\\n        " + zsh_option(*option);
    }
    cases += " \\\n        '--help[show the options]'";
    if (command.operands > 0) {
      cases += " \\\n        '*:operand:" + operands_of(command).zsh + "'";
    }
    cases += " ;;\n";
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

std::string fish_script() {
  std::string text =
      "# fish completion for convae: printed by convae completion fish\n"
      "complete -c convae -f\n";
  for (const Command& command : command_list()) {
    text += fmt::format("complete -c convae -n __fish_use_subcommand -a {} -d '{}'\n", command.name,
                        escaped(command.summary, "\\'"));
    const std::string line =
        fmt::format("complete -c convae -n '__fish_seen_subcommand_from {}'", command.name);
    // Without -r or -x, which are about an option's value.
    if (command.operands > 0) text += line + operands_of(command).fish.substr(3) + "\n";
    for (const OptionSpec* option : options_of(command.name)) {
      text += fmt::format("{}{} -l {}{} -d '{}'\n", line,
                          option->letter.empty() ? "" : " -s " + option->letter, option->name,
                          offer_of(*option).fish, escaped(option->help, "\\'"));
    }
    text += line + " -l help -d 'show the options'\n";
  }
  return text;
}

}  // namespace

int run_completion(const CommandLine& line) {
  if (line.operands.empty()) throw OptionError("completion needs a shell: bash, zsh or fish");
  const std::map<std::string, std::string (*)()> scripts = {
      {"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
  const auto script = scripts.find(line.operands[0]);
  require_option(script != scripts.end(),
                 "completion " + in_quotes(line.operands[0]) + ": expected bash, zsh or fish");
  std::fputs(script->second().c_str(), stdout);
  return kDone;
}

}  // namespace convae::app
