#include "convae/data/tar.h"

#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace convae {
namespace {

constexpr std::int64_t kTarBlock = 512;
/// Of a long name or pax records; more than any writer makes.
constexpr std::int64_t kMostExtraBytes = 1 << 20;

using TarBlock = std::array<char, kTarBlock>;

struct HeaderField {
  std::size_t at, length;
};
constexpr HeaderField kTarName = {0, 100}, kTarSize = {124, 12}, kTarChecksum = {148, 8},
                      kTarMagic = {257, 6}, kTarPrefix = {345, 155};
constexpr std::size_t kTarType = 156;

std::string_view field_of(const TarBlock& block, HeaderField field) {
  return {block.data() + field.at, field.length};
}

/// Up to the first NUL.
std::string_view text_in(std::string_view bytes) { return bytes.substr(0, bytes.find('\0')); }

/// Octal digits between blanks, or, where the first bit is set, GNU's big-endian bytes.
std::optional<std::int64_t> number_in(std::string_view bytes) {
  const auto first = static_cast<unsigned char>(bytes[0]);
  if (first == 0x80) {
    std::uint64_t value = 0;
    for (const char c : bytes.substr(1)) {
      if (value >> 55 != 0) return std::nullopt;
      value = value << 8 | static_cast<unsigned char>(c);
    }
    return static_cast<std::int64_t>(value);
  }
  std::int64_t value = 0;
  for (const char c : trimmed(text_in(bytes))) {
    if (c < '0' || c > '7' || value >> 59 != 0) return std::nullopt;
    value = value * 8 + (c - '0');
  }
  return value;
}

/// The checksum's own bytes count as blanks. Old writers added signed bytes.
bool has_checksum(const TarBlock& block) {
  const auto stored = number_in(field_of(block, kTarChecksum));
  std::int64_t sum = std::int64_t{8} * ' ', as_signed = sum;
  for (std::size_t i = 0; i < block.size(); ++i) {
    if (i >= kTarChecksum.at && i < kTarChecksum.at + kTarChecksum.length) continue;
    sum += static_cast<unsigned char>(block[i]);
    as_signed += static_cast<signed char>(block[i]);
  }
  return stored && (*stored == sum || *stored == as_signed);
}

bool is_zero(const TarBlock& block) {
  return std::ranges::all_of(block, [](char c) { return c == 0; });
}

std::string name_in(const TarBlock& block) {
  const auto name = std::string(text_in(field_of(block, kTarName)));
  // GNU has other fields where POSIX has the first part of the name.
  const bool is_posix = field_of(block, kTarMagic) == std::string_view("ustar\0", kTarMagic.length);
  const std::string_view prefix = is_posix ? text_in(field_of(block, kTarPrefix)) : "";
  return prefix.empty() ? name : std::string(prefix) + "/" + name;
}

TarMember::Kind kind_of_type(char type, const std::string& name) {
  switch (type) {
    case '\0':
    case '0':
    case '7':  // contiguous
      // Before POSIX, a folder was a file whose name ends so.
      return name.ends_with('/') ? TarMember::Kind::folder : TarMember::Kind::file;
    case '5':
    case 'D': return TarMember::Kind::folder;
    case '1':
    case '2': return TarMember::Kind::link;
    case 'S': return TarMember::Kind::sparse;
    default: return TarMember::Kind::other;
  }
}

/// Links have no bytes, whatever the field says: some writers note the size of what is linked.
bool has_content(char type) { return type < '1' || type > '6'; }

class TarReader {
public:
  /// `at`: where a header begins.
  explicit TarReader(const InputFile& file, std::int64_t at = 0) : file_(file), at_(at) {}

  TarContents read() {
    while (read_member()) continue;
    if (contents_.members.empty() && at_ == 0) throw std::runtime_error("not a tar archive");
    return std::move(contents_);
  }

  /// The next one, whole or not; nullopt where there is none.
  std::optional<TarMember> read_one() {
    while (!last_ && read_member()) continue;
    return last_;
  }

private:
  /// What comes before a header and holds for that one.
  struct Extra {
    std::string name;
    std::optional<std::int64_t> size;
    bool sparse = false;
  };

  /// False at the end.
  bool read_member() {
    TarBlock block;
    const std::int64_t got = file_.read_at(at_, block.data(), kTarBlock);
    if (got < kTarBlock) return end(got == 0 ? "it has no end mark" : "it is cut within a header");
    if (is_zero(block)) return skip_end_mark();
    const auto size = number_in(field_of(block, kTarSize));
    if (!has_checksum(block) || !size) return end("there is no header of a member");
    at_ += kTarBlock;
    const char type = block[kTarType];
    if (type == 'x' || type == 'X' || type == 'g' || type == 'L' || type == 'K') {
      return read_extra(type, *size);
    }
    const Extra extra = std::exchange(extra_, {});
    TarMember member{.name = extra.name.empty() ? name_in(block) : extra.name,
                     .offset = at_,
                     .size = has_content(type) ? extra.size.value_or(*size) : 0};
    member.kind = extra.sparse ? TarMember::Kind::sparse : kind_of_type(type, member.name);
    if (type == 'S' && !skip_sparse_map(block)) return end("it is cut within a header");
    last_ = member;
    if (!skip(member.size)) return end("it is cut within " + in_quotes(member.name));
    contents_.members.push_back(std::move(member));
    return true;
  }

  /// Of archives that were joined, another follows. False where none does.
  bool skip_end_mark() {
    TarBlock block{};
    while (is_zero(block)) {
      at_ += kTarBlock;
      if (file_.read_at(at_, block.data(), kTarBlock) < kTarBlock) return false;
    }
    return has_checksum(block);
  }

  /// Goes past so many bytes of content; false where the file ends before.
  bool skip(std::int64_t size) {
    const std::int64_t left = file_.size() - at_;
    if (size > left) return false;
    at_ += std::min(left, (size + kTarBlock - 1) / kTarBlock * kTarBlock);
    return true;
  }

  /// GNU's old form: where the map does not fit the header, blocks with the rest follow it.
  bool skip_sparse_map(TarBlock block) {
    constexpr std::size_t kGoesOn = 482, kGoesOnAfterThat = 504;
    for (bool goes_on = block[kGoesOn] != 0; goes_on; goes_on = block[kGoesOnAfterThat] != 0) {
      if (file_.read_at(at_, block.data(), kTarBlock) < kTarBlock) return false;
      at_ += kTarBlock;
    }
    return true;
  }

  bool read_extra(char type, std::int64_t size) {
    if (size > kMostExtraBytes) return end("there is no header of a member");
    std::string text(static_cast<std::size_t>(size), '\0');
    const bool is_whole = file_.read_at(at_, text.data(), size) == size && skip(size);
    if (!is_whole) return end("it is cut within a header");
    if (type == 'L') extra_.name = text_in(text);
    if (type == 'x' || type == 'X') {
      if (!read_records(text)) return end("there are damaged pax records");
    }
    return true;  // 'g': defaults such as a comment; 'K': where a long link leads
  }

  /// pax: "LENGTH KEY=VALUE\n" again and again, where LENGTH is that of all of it.
  bool read_records(std::string_view text) {
    while (!text.empty()) {
      const std::size_t blank = std::min(text.find(' '), text.size());
      const auto length = parse_as<std::size_t>(text.substr(0, blank));
      if (!length || *length > text.size() || *length < blank + 2) return false;
      const std::string_view record = text.substr(blank + 1, *length - blank - 2);
      const std::size_t equals = record.find('=');
      if (equals == std::string_view::npos) return false;
      const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
      if (key == "path") extra_.name = value;
      if (key == "size") {
        extra_.size = parse_as<std::int64_t>(value);
        if (!extra_.size || *extra_.size < 0) return false;
      }
      if (key == "GNU.sparse.name") extra_.name = value;
      extra_.sparse = extra_.sparse || key.starts_with("GNU.sparse.");
      text.remove_prefix(*length);
    }
    return true;
  }

  bool end(const std::string& reason) {
    contents_.damage = fmt::format("{} at byte {}", reason, at_);
    return false;
  }

  const InputFile& file_;
  std::int64_t at_ = 0;
  Extra extra_;
  std::optional<TarMember> last_;
  TarContents contents_;
};

struct Compression {
  std::string_view start;
  const char *name, *unpacker;
};
using namespace std::string_view_literals;
constexpr Compression kCompressions[] = {
    {"\x1f\x8b"sv, "gzip", "gunzip"},        {"\x28\xb5\x2f\xfd"sv, "zstd", "zstd -d"},
    {"\xfd\x37zXZ\0"sv, "xz", "xz -d"},      {"BZh"sv, "bzip2", "bunzip2"},
    {"\x04\x22\x4d\x18"sv, "lz4", "lz4 -d"}, {"LZIP"sv, "lzip", "lzip -d"},
    {"\x1f\x9d"sv, "compress", "uncompress"}};

bool begins_with_header(const InputFile& file) {
  TarBlock block;
  return file.read_at(0, block.data(), kTarBlock) == kTarBlock && has_checksum(block);
}

/// Without the folders it is in.
std::string_view base_name(std::string_view name) { return name.substr(name.rfind('/') + 1); }

}  // namespace

TarContents read_tar(const InputFile& file) {
  std::array<char, 8> head{};
  const auto got = static_cast<std::size_t>(file.read_at(0, head.data(), head.size()));
  for (const Compression& known : kCompressions) {
    // The name that a tar begins with may look like one.
    if (!std::string_view(head.data(), got).starts_with(known.start) || begins_with_header(file)) {
      continue;
    }
    throw std::runtime_error(fmt::format(
        "it is compressed ({}), so its members cannot be read one by one; unpack it, as "
        "with {} < compressed.tar > plain.tar, or write shards from its images with convae pack",
        known.name, known.unpacker));
  }
  return TarReader(file).read();
}

void require_tar_member(const InputFile& archive, const TarMember& member) {
  // What the header has no room for, such as a long name, comes before it with headers of its own.
  constexpr std::int64_t kMostBlocks = kMostExtraBytes / kTarBlock + 8;
  for (std::int64_t blocks = 1; blocks <= kMostBlocks; ++blocks) {
    const std::int64_t at = member.offset - blocks * kTarBlock;
    if (at < 0) break;
    const auto found = TarReader(archive, at).read_one();
    if (found && found->offset == member.offset && found->size == member.size &&
        base_name(found->name) == base_name(member.name)) {
      return;
    }
  }
  throw std::runtime_error("the shard " + in_quotes(archive.path()) +
                           " changed since it was listed");
}

}  // namespace convae
