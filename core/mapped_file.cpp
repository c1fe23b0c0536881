#include "convae/core/mapped_file.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>
#include <utility>

namespace convae {

MappedFile::MappedFile(InputFile file)
    : file_(std::move(file)),
      before_(static_cast<std::size_t>(file_.offset() % ::sysconf(_SC_PAGESIZE))),
      mapped_(before_ + static_cast<std::size_t>(file_.size())) {
  if (mapped_ == 0) return;
  void* memory = ::mmap(nullptr, mapped_, PROT_READ, MAP_PRIVATE, file_.descriptor(),
                        file_.offset() - static_cast<std::int64_t>(before_));
  if (memory == MAP_FAILED) {
    throw std::runtime_error(
        fmt::format("cannot read {}: {}", printable(file_.path().native()), system_reason()));
  }
  memory_ = static_cast<const std::uint8_t*>(memory);
}

MappedFile::~MappedFile() {
  if (memory_ != nullptr) ::munmap(const_cast<std::uint8_t*>(memory_), mapped_);
}

void MappedFile::let_go() const {
  if (memory_ == nullptr) return;
  ::madvise(const_cast<std::uint8_t*>(memory_), mapped_, MADV_DONTNEED);
}

}  // namespace convae
