#pragma once

#include "convae/app/options/options.h"
#include "convae/core/callbacks.h"

namespace convae::app {

/// Sends the program's log to stderr, at the level the options name.
void start_logging(const RunOptions& options);

/// What the program gives to jobs: lines go to the log, progress to a bar on the terminal, and
/// Ctrl-C stops them. Of several ranks, the first one speaks for all, and a signal to stop ends
/// them at once, since others wait for each: only files that are complete remain.
Callbacks program_callbacks(const RunOptions& options);

}  // namespace convae::app
