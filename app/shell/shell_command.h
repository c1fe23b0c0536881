#pragma once

#include <string>
#include <vector>

namespace convae::app {

/// The program's words as they can be given to a shell again.
std::string shell_command(const std::vector<std::string>& words);

}  // namespace convae::app
