#pragma once

#include <string>

namespace convae::app {

/// convae's manual page, for man(1), made from the command list and the table of options.
std::string man_page();

}  // namespace convae::app
