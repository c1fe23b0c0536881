#include "convae/data/header_bytes.h"

#include "convae/data/codecs/codecs.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <string_view>

namespace convae {
namespace {

using codec::is_at;
using codec::number_at;

/// A file up to here is read whole, and one with more than so much of metadata, too.
constexpr std::uint64_t kSmallFileBytes = 16 << 10;
constexpr std::int64_t kMostPages = 256;

/// Larger values of TIFF's tags are no part of what is needed, such as colour profiles.
constexpr std::uint64_t kMostTagBytes = 64 << 10;

}  // namespace

HeaderBytes::HeaderBytes(const ImageFile& image)
    : file_(open_image(image)),
      size_(static_cast<std::uint64_t>(file_.size())),
      bytes_(nullptr, Unmap{size_}) {
  if (size_ == 0) return;
  // Pages of it that are never touched take no memory.
  void* memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  bytes_.reset(static_cast<std::uint8_t*>(memory));
  loaded_.resize(size_ / kPageBytes + 1);
  file_.expect_few_reads();
  found_ = find_parts() && pages_ <= kMostPages;
}

void HeaderBytes::Unmap::operator()(std::uint8_t* bytes) const { ::munmap(bytes, size); }

/// Those bytes of the file, as far as it has them, read if they are not there yet.
HeaderBytes::Bytes HeaderBytes::load(std::uint64_t at, std::uint64_t count) {
  if (at >= size_) return {};
  count = std::min(count, size_ - at);
  for (std::uint64_t page = at / kPageBytes; page * kPageBytes < at + count; ++page) {
    if (loaded_[page] || pages_ > kMostPages) continue;
    loaded_[page] = true;
    ++pages_;
    const std::uint64_t begin = page * kPageBytes;
    file_.read_at(static_cast<std::int64_t>(begin), &bytes_[begin],
                  static_cast<std::int64_t>(std::min<std::uint64_t>(kPageBytes, size_ - begin)));
  }
  return {&bytes_[at], count};
}

bool HeaderBytes::find_parts() {
  if (size_ <= kSmallFileBytes) return load(0, size_).size() == size_;
  const Bytes head = load(0, kPageBytes);
  if (is_at(head, 0, "\x89PNG")) return find_png();
  if (is_at(head, 0, "\xFF\xD8")) return find_jpeg();
  if (is_at(head, 0, "II") || is_at(head, 0, "MM")) return find_tiff();
  if (is_at(head, 0, "RIFF")) return find_webp();
  // A BMP's header and palette are in its first page, and so is what names other kinds of file.
  return true;
}

/// All chunks before and after the pixels. The chunks of pixels are of one length but for the last:
/// that is looked for where it must be then, and for the codec the first becomes as long as all
/// before it together.
bool HeaderBytes::find_png() {
  constexpr std::uint64_t kFrame = 12;  // length, type and checksum
  const auto length_at = [&](std::uint64_t at) {
    return number_at(Bytes(bytes_.get(), size_), at, 4, std::endian::big);
  };
  const auto is_chunk = [&](std::uint64_t at, std::string_view type) {
    return is_at(load(at, 8), 4, type) && length_at(at) <= size_ - at - 8;
  };
  std::uint64_t at = 8;
  while (!is_chunk(at, "IDAT")) {
    if (load(at, 8).size() < 8 || pages_ > kMostPages) return false;
    const std::uint64_t next = at + kFrame + length_at(at);
    load(at, next - at);
    at = next;
  }
  const std::uint64_t first = at, step = kFrame + length_at(first);
  const auto is_pixels = [&](std::uint64_t nth) { return is_chunk(first + nth * step, "IDAT"); };
  std::uint64_t last = (size_ - first) / step, none = last + 1;
  if (!is_pixels(last) && (last == 0 || !is_pixels(--last))) {
    // Much follows the pixels.
    for (none = last, last = 0; none - last > 1;) {
      const std::uint64_t middle = last + (none - last) / 2;
      (is_pixels(middle) ? last : none) = middle;
    }
  }
  at = first + last * step;
  for (bool ended = false; !ended && pages_ <= kMostPages; at += kFrame + length_at(at)) {
    if (load(at, 8).size() < 8) return false;
    ended = is_chunk(at, "IEND");
    if (!is_chunk(at, "IDAT")) load(at, kFrame + length_at(at));
  }
  const std::uint64_t before = last * step;
  if (before >> 31 != 0) return false;  // more than a chunk may have
  if (last == 0) return true;
  for (int i = 0; i < 4; ++i) {
    bytes_[first + i] = static_cast<std::uint8_t>((before - kFrame) >> (24 - 8 * i));
  }
  return true;
}

/// All segments up to the pixels; of large ones, only EXIF data.
bool HeaderBytes::find_jpeg() {
  for (std::uint64_t at = 2; pages_ <= kMostPages;) {
    const Bytes head = load(at, 4);
    if (head.size() < 4 || head[0] != 0xff) return false;
    if (head[1] == 0xff) {  // padding
      ++at;
      continue;
    }
    const int marker = head[1];
    const std::uint64_t length = 2 + number_at(head, 2, 2, std::endian::big);
    const bool is_skipped = marker == 0xfe || (marker >= 0xe0 && marker <= 0xef && marker != 0xe1);
    if (length <= std::uint64_t{kPageBytes} || !is_skipped) load(at, length);
    if (marker == 0xda) return true;
    at += length;
  }
  return false;
}

/// All directories, and the values of tags up to the first that is a page and no small picture.
bool HeaderBytes::find_tiff() {
  static constexpr std::uint64_t kTypeBytes[] = {1, 1, 1, 2, 4, 8, 1, 1, 2, 4,
                                                 8, 4, 8, 4, 1, 1, 8, 8, 8};
  const auto order = bytes_[0] == 'I' ? std::endian::little : std::endian::big;
  const auto number = [&](std::uint64_t at, std::uint64_t count) -> std::uint64_t {
    const Bytes found = load(at, count);
    return found.size() < count ? 0 : number_at(found, 0, static_cast<int>(count), order);
  };
  const bool big = number(2, 2) == 43;  // BigTIFF
  const std::uint64_t offset = big ? 8 : 4, entry = big ? 20 : 12, count_bytes = big ? 8 : 2;
  std::uint64_t at = number(big ? 8 : 4, offset);
  bool is_found = false;
  for (int page = 0; at != 0 && at < size_ && page < kMaxPages && pages_ <= kMostPages; ++page) {
    const std::uint64_t entries = number(at, count_bytes);
    if (entries == 0 || entries > size_ / entry) return page > 0;
    const std::uint64_t end = at + count_bytes + entries * entry;
    constexpr std::uint64_t kSubfileType = 254;
    load(at, count_bytes + std::min<std::uint64_t>(entries, kMostTagBytes / entry) * entry);
    const bool is_sought = !is_found;
    is_found = is_found || number(at + count_bytes, 2) != kSubfileType ||
               (number(at + count_bytes + 4 + offset, 4) & 5) == 0;  // reduced, or a mask
    for (std::uint64_t tag = at + count_bytes; is_sought && tag < end; tag += entry) {
      const std::uint64_t type = number(tag + 2, 2), values = number(tag + 4, offset);
      if (type >= std::size(kTypeBytes) || values > kMostTagBytes) continue;
      const std::uint64_t bytes = values * kTypeBytes[type];
      if (bytes > offset && bytes <= kMostTagBytes) load(number(tag + 4 + offset, offset), bytes);
    }
    at = number(end, offset);
  }
  return true;
}

/// The frames of all chunks, with EXIF data.
bool HeaderBytes::find_webp() {
  constexpr std::uint64_t kSeen = 32;  // of what the frame holds: sizes and what kind it is
  for (std::uint64_t at = 12; at < size_ && pages_ <= kMostPages;) {
    const Bytes chunk = load(at, kSeen);
    if (chunk.size() < 8) return true;
    const std::uint64_t length = number_at(chunk, 4, 4);
    if (is_at(chunk, 0, "EXIF")) load(at, 8 + length);
    at += 8 + length + length % 2;
  }
  return true;
}

}  // namespace convae
