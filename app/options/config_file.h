#pragma once

#include "convae/app/options/options.h"

#include <filesystem>
#include <set>
#include <string>
#include <string_view>

namespace convae::app {

/// Reads TOML text into `options`; what it does not name stays as it is. `name` is the file's name
/// for messages. Returns the flags of the options it names.
/// Throws OptionError with file, line, key and what was expected.
std::set<std::string> read_config(std::string_view text, const std::string& name, Options& options);

/// The same from a file. Throws OptionError where it cannot be read.
std::set<std::string> read_config_file(const std::filesystem::path& path, Options& options);

/// Every option of a training run as TOML: read_config() gives the same options back.
std::string write_config(const Options& options);

}  // namespace convae::app
