#include "convae/data/shard_index.h"

#include "convae/core/digest.h"
#include "convae/core/paths.h"
#include "convae/core/version.h"
#include "convae/data/header_index.h"

#include <fmt/format.h>

#include <iterator>
#include <optional>
#include <string_view>
#include <system_error>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// "NUMBER " from the front of a text.
std::int64_t take_number(std::string_view& text) {
  const std::size_t blank = text.find(' ');
  const auto number = parse_as<std::int64_t>(text.substr(0, blank));
  if (blank == std::string_view::npos || !number) throw std::runtime_error("damaged");
  text.remove_prefix(blank + 1);
  return *number;
}

/// "LENGTH TEXT\n": names may hold anything.
std::string take_text(std::string_view& text) {
  const auto length = static_cast<std::size_t>(take_number(text));
  std::string taken(text.substr(0, length));
  if (text.size() <= length) throw std::runtime_error("damaged");
  text.remove_prefix(length + 1);
  return taken;
}

std::string to_text(const TarContents& contents) {
  std::string text = fmt::format("{} {}\n", contents.damage.size(), contents.damage);
  for (const TarMember& member : contents.members) {
    fmt::format_to(std::back_inserter(text), "{} {} {} {} {}\n", static_cast<int>(member.kind),
                   member.offset, member.size, member.name.size(), member.name);
  }
  return text;
}

TarContents contents_in(std::string_view text) {
  TarContents contents;
  contents.damage = take_text(text);
  while (!text.empty()) {
    TarMember member;
    member.kind = static_cast<TarMember::Kind>(take_number(text));
    member.offset = take_number(text);
    member.size = take_number(text);
    member.name = take_text(text);
    contents.members.push_back(std::move(member));
  }
  return contents;
}

/// The first line: all that has to be as it was. The second is the digest of the rest.
std::string title_of(const fs::path& shard) {
  return fmt::format("convae {} members, of {} {}\n", kVersion, HeaderIndex::stamp(shard),
                     printable(shard.string()));
}

std::optional<TarContents> read_kept(const fs::path& file, const std::string& title) {
  if (!is_there(file)) return std::nullopt;
  try {
    const std::string kept = read_text(file);
    std::string_view rest = kept;
    if (!rest.starts_with(title)) return std::nullopt;
    rest.remove_prefix(title.size());
    const std::string_view digest = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), digest.size() + 1));
    return digest == digest_of(rest) ? std::optional(contents_in(rest)) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace

TarContents ShardIndex::contents_of(const fs::path& shard) {
  if (where_.empty()) return read_tar(InputFile(shard));
  std::error_code ignored;
  const fs::path path = fs::weakly_canonical(shard, ignored);
  const fs::path file = where_ / (digest_of(path.string()) + ".tar.txt");
  const std::string title = title_of(path);  // before it is opened: it may be replaced meanwhile
  if (auto kept = read_kept(file, title)) return std::move(*kept);
  TarContents contents = read_tar(InputFile(shard));
  const std::string text = to_text(contents);
  const std::lock_guard lock(mutex_);
  new_[file] = title + digest_of(text) + "\n" + text;
  return contents;
}

void ShardIndex::save() const noexcept {
  try {
    for (const auto& [file, text] : new_) {
      fs::create_directories(file.parent_path());
      write_file(file, text);
    }
  } catch (const std::exception&) {
  }
}

}  // namespace convae
