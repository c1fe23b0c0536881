#pragma once

#include "app/options.h"

#include <filesystem>
#include <string>

namespace convae::app {

/// Sends the program's log to stderr, at the level the options name.
void start_logging(const RunOptions& options);

/// Keeps the log in a file too, beginning with the lines logged so far.
void log_to_file(const std::filesystem::path& path);

}  // namespace convae::app
