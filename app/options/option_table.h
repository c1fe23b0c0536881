#pragma once

#include "convae/app/options/option_spec.h"

#include <string_view>
#include <vector>

namespace convae::app {

/// Every option of every command, in the order of the documentation.
const std::vector<OptionSpec>& option_table();

/// The option of that name in that group, or nullptr.
const OptionSpec* find_option(Group group, std::string_view name);

}  // namespace convae::app
