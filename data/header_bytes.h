#pragma once

#include "convae/data/folder.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace convae {

/// The parts of an image file that probe_image() looks at, each at its place between zeros, so that
/// a few kilobytes are read of a file of any size. Throws what open_image() throws.
class HeaderBytes {
public:
  explicit HeaderBytes(const ImageFile& image);

  /// As long as the file. Empty where its parts are not where they are in most files: then the
  /// whole is to be read.
  std::span<const std::uint8_t> bytes() const { return {bytes_.get(), found_ ? size_ : 0}; }

  /// How much of the file was read.
  std::int64_t bytes_read() const { return pages_ * kPageBytes; }

private:
  /// What the system reads at least.
  static constexpr std::int64_t kPageBytes = 4096;
  using Bytes = std::span<const std::uint8_t>;
  struct Unmap {
    std::uint64_t size;
    void operator()(std::uint8_t* bytes) const;
  };
  bool find_parts();
  bool find_png();
  bool find_jpeg();
  bool find_tiff();
  bool find_webp();
  Bytes load(std::uint64_t at, std::uint64_t count);

  InputFile file_;
  std::uint64_t size_;
  std::unique_ptr<std::uint8_t[], Unmap> bytes_;
  std::vector<bool> loaded_;  // pages
  std::int64_t pages_ = 0;    // that are loaded
  bool found_ = false;
};

}  // namespace convae
