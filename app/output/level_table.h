#pragma once

#include "convae/models/level_table.h"

namespace convae::app {

/// Makes `model` one for images such as "3x24x24", what --input gives, and returns their size.
/// Throws UsageError.
Size set_input(ModelOptions& model, const std::string& text);

}  // namespace convae::app
