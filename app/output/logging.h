#pragma once

#include "convae/app/options/options.h"

#include <filesystem>
#include <string>

namespace convae::app {

/// Sends the program's log to stderr, at the level the options name.
void start_logging(const RunOptions& options);

/// Keeps the log in a file too, beginning with the lines logged so far.
void log_to_file(const std::filesystem::path& path);

/// Notes in the log's file, if there is one, why the program ends: stderr is told by main.
void log_failure(const std::string& message);

}  // namespace convae::app
