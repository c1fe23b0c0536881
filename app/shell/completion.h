#pragma once

#include <string>

namespace convae::app {

/// A shell's script that completes convae's commands, options and values, made from the command
/// list and the table of options. `shell` is bash, zsh or fish; throws UsageError for others.
std::string completion_script(const std::string& shell);

}  // namespace convae::app
