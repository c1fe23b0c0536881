#include "convae/data/tar.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

/// Any bytes are an archive or refused; members lie within the file, one after the other, and each
/// has its header before it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
  using namespace convae;
  static const int memory = ::memfd_create("archive", 0);
  if (::ftruncate(memory, 0) != 0) std::abort();
  if (::pwrite(memory, bytes, count, 0) != static_cast<ssize_t>(count)) std::abort();
  const InputFile file("/proc/self/fd/" + std::to_string(memory));
  try {
    std::int64_t end = 0;
    for (const TarMember& member : read_tar(file).members) {
      if (member.offset < end + 512 || member.size < 0) std::abort();
      end = member.offset + member.size;
      if (end > static_cast<std::int64_t>(count)) std::abort();
    }
  } catch (const std::runtime_error&) {  // refused, as it should be
  }
  return 0;
}
