#include "convae/core/folder_lock.h"

#include "convae/core/text.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <stdexcept>

namespace convae {

std::shared_ptr<const Descriptor> lock_folder(const std::filesystem::path& path) {
  auto lock =
      std::make_shared<const Descriptor>(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock->get() < 0) {
    throw std::runtime_error("cannot open the folder " + in_quotes(path) + ": " + system_reason());
  }
  if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return nullptr;
  return lock;
}

}  // namespace convae
