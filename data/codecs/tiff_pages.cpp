#include "convae/data/codecs/tiff_parts.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <set>
#include <string_view>

namespace convae::codec {
namespace {

constexpr int kMaxLinks = 4 * kMaxPages;  // from directory to directory

/// The whole number that follows `key` in `text`, or 1.
int number_after(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return 1;
  int number = 1;
  std::from_chars(text.data() + at + key.size(), text.data() + text.size(), number);
  return number;
}

}  // namespace

Pages find_pages(Bytes bytes) {
  const auto order = bytes[0] == 'I' ? std::endian::little : std::endian::big;
  const auto number = [&](std::uint64_t at, std::uint64_t count) {  // 0 beyond the end
    return at < bytes.size() && count <= bytes.size() - at ? number_at(bytes, at, count, order) : 0;
  };
  const bool big = number(2, 2) == 43;  // BigTIFF
  const int count_bytes = big ? 8 : 2, entry_bytes = big ? 20 : 12, link_bytes = big ? 8 : 4;
  /// The one number that a directory has of a tag; 0 where it has none.
  const auto number_of = [&](std::uint64_t tag, std::uint64_t at, std::uint64_t entries) {
    constexpr std::uint64_t kMostLooks = 16;  // in the tags' order, those asked for come early
    for (std::uint64_t i = 0; i < std::min(entries, kMostLooks); ++i, at += entry_bytes) {
      if (number(at, 2) != tag) continue;
      return number(at + (big ? 12 : 8), number(at + 2, 2) == TIFF_SHORT ? 2 : 4);
    }
    return std::uint64_t{0};
  };
  std::set<std::uint64_t> seen;
  Pages pages;
  auto at = big ? number(8, 8) : number(4, 4);
  while (at != 0 && pages.count < kMaxPages && std::ssize(seen) < kMaxLinks) {
    const auto entries = number(at, count_bytes);
    pages.is_cut = entries == 0 || entries > bytes.size() / entry_bytes;
    if (pages.is_cut || !seen.insert(at).second) break;
    const std::uint64_t tags = at + count_bytes,
                        kind = number_of(TIFFTAG_SUBFILETYPE, tags, entries);
    const bool is_page = (kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)) == 0;
    if (is_page && pages.count++ == 0) {
      pages.first = static_cast<int>(seen.size()) - 1;
      pages.is_indexed = number_of(TIFFTAG_PHOTOMETRIC, tags, entries) == PHOTOMETRIC_PALETTE;
    }
    at = number(at + count_bytes + entries * entry_bytes, link_bytes);
  }
  return pages;
}

int noted_planes(TIFF* tiff, Size page, int samples) {
  constexpr std::uint32_t kUic2 = 33629;  // of MetaMorph: its count is the number of planes
  char* text = nullptr;
  std::uint32_t depth = 1;
  std::int64_t planes = 1;
  if (TIFFGetField(tiff, TIFFTAG_IMAGEDEPTH, &depth)) planes = depth;
  if (TIFFGetField(tiff, TIFFTAG_IMAGEDESCRIPTION, &text) && text != nullptr) {
    std::string_view note(text);
    constexpr std::string_view kShape = "{\"shape\": [";
    if (note.starts_with("ImageJ=")) planes = number_after(note, "\nimages=");
    if (note.starts_with(kShape)) {
      note.remove_prefix(kShape.size());
      std::int64_t values = 1, length = 0;
      while (true) {
        const auto [end, error] = std::from_chars(note.data(), note.data() + note.size(), length);
        if (error != std::errc{} || __builtin_mul_overflow(values, length, &values)) break;
        note.remove_prefix(end - note.data());
        if (!note.starts_with(", ")) break;
        note.remove_prefix(2);
      }
      planes = std::max(planes, values / page.h / page.w / samples);
    }
  }
  std::uint32_t count = 0;
  void* ignored = nullptr;
  if (const auto* field = TIFFFindField(tiff, kUic2, TIFF_ANY);
      field != nullptr && TIFFFieldPassCount(field) &&
      TIFFFieldReadCount(field) == TIFF_VARIABLE2 && TIFFGetField(tiff, kUic2, &count, &ignored)) {
    planes = std::max<std::int64_t>(planes, count);
  }
  return static_cast<int>(std::clamp<std::int64_t>(planes, 1, kMaxPages));
}

}  // namespace convae::codec
