#pragma once

#include "convae/app/options/options.h"

namespace convae::app {

/// Sends the program's log to stderr, at the level the options name.
void start_logging(const RunOptions& options);

}  // namespace convae::app
