#include "convae/app/shell/shell_command.h"

#include "convae/core/text.h"

namespace convae::app {
namespace {

std::string shell_word(const std::string& word) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  // What printable() escapes, the shell's $'…' understands.
  const std::string shown = printable(word);
  const bool escaped = shown != word;
  std::string quoted = escaped ? "$'" : "'";
  for (const char c : shown) {
    if (c == '\'') {
      quoted += escaped ? "\\'" : "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace

std::string shell_command(const std::vector<std::string>& words) {
  std::string command = "convae";
  for (const std::string& word : words) command += " " + shell_word(word);
  return command;
}

}  // namespace convae::app
