#pragma once

#include "convae/core/descriptor.h"

#include <filesystem>
#include <memory>

namespace convae {

/// A folder's descriptor, locked until it is closed; the lock is the system's (flock), so that it
/// ends with its process. Null where another process has it. File systems that know no locks (some
/// network ones) leave the folder unguarded. Throws std::runtime_error where it cannot be opened.
std::shared_ptr<const Descriptor> lock_folder(const std::filesystem::path& path);

}  // namespace convae
