#include "convae/data/globs.h"

#include <cstdint>

namespace convae {
namespace {

constexpr std::size_t kNowhere = std::string_view::npos;

struct Character {
  std::int32_t code = 0;  // in Unicode; of a byte that is no UTF-8, below 0
  std::size_t length = 1;
};

/// What a text that is not empty begins with.
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t length = byte(0) < 0x80   ? 1
                             : byte(0) < 0xC2 ? 0
                             : byte(0) < 0xE0 ? 2
                             : byte(0) < 0xF0 ? 3
                                              : 4;
  if (length == 1) return {byte(0), 1};
  const Character alone{byte(0) - 256, 1};
  if (length == 0 || length > text.size()) return alone;
  std::int32_t code = byte(0) & (0x7F >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return alone;
    code = code << 6 | (byte(i) & 0x3F);
  }
  return {code, length};
}

/// Where the glob goes on after the one character that its beginning stands for; kNowhere where
/// that is not `c`.
std::size_t after_character(std::string_view glob, std::int32_t c) {
  if (glob.empty()) return kNowhere;
  if (glob[0] == '?') return c == '/' ? kNowhere : 1;
  const bool negated = glob.size() > 1 && (glob[1] == '!' || glob[1] == '^');
  const std::size_t begin = negated ? 2 : 1;
  const std::size_t end = glob[0] == '[' ? glob.find(']', begin + 1) : kNowhere;
  if (end == kNowhere) {
    const std::size_t at = glob[0] == '\\' && glob.size() > 1 ? 1 : 0;
    const Character is = first_character(glob.substr(at));
    return is.code == c ? at + is.length : kNowhere;
  }
  std::string_view set = glob.substr(begin, end - begin);
  const auto take = [&] {
    const Character first = first_character(set);
    set.remove_prefix(first.length);
    return first.code;
  };
  bool found = false;
  while (!set.empty()) {
    const std::int32_t at_least = take();
    const bool is_range = set.size() > 1 && set[0] == '-';
    if (is_range) set.remove_prefix(1);
    const std::int32_t at_most = is_range ? take() : at_least;
    found = found || (at_least <= c && c <= at_most);
  }
  return found != negated && c != '/' ? end + 1 : kNowhere;
}

/// Whether the whole glob matches the whole name. Where it does not go on, the latest `*` takes a
/// character more, else the latest `**`.
bool matches_whole(std::string_view glob, std::string_view name) {
  struct Star {
    std::size_t glob = kNowhere, name = 0;  // what comes after it
    bool folders = false;                   // takes whole folders: "**/"
  } one, all;
  std::size_t g = 0, n = 0;
  while (g < glob.size() || n < name.size()) {
    const std::string_view rest = glob.substr(g);
    if (rest.starts_with("**")) {
      const bool folders = rest.starts_with("**/") && (n == 0 || name[n - 1] == '/');
      g += folders ? 3 : 2;
      one = {};
      all = {g, n, folders};
      continue;
    }
    if (rest.starts_with('*')) {
      one = {++g, n};
      continue;
    }
    const Character next = n < name.size() ? first_character(name.substr(n)) : Character{};
    const std::size_t step = n < name.size() ? after_character(rest, next.code) : kNowhere;
    if (step != kNowhere) {
      g += step;
      n += next.length;
    } else if (one.glob != kNowhere && one.name < name.size() && name[one.name] != '/') {
      g = one.glob;
      n = one.name += first_character(name.substr(one.name)).length;
    } else if (all.glob != kNowhere && all.name < name.size()) {
      const std::size_t slash = all.folders ? name.find('/', all.name) : all.name;
      if (slash == kNowhere) return false;
      one = {};
      g = all.glob;
      n = all.name = slash + first_character(name.substr(slash)).length;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

bool matches_glob(std::string_view glob, std::string_view name) {
  while (glob.starts_with("./")) glob.remove_prefix(2);
  if (glob.ends_with('/')) return matches_whole(std::string(glob) + "**", name);
  if (glob.find('/') == kNowhere) name.remove_prefix(name.rfind('/') + 1);
  return matches_whole(glob, name);
}

std::string glob_of(std::string_view text) {
  constexpr std::string_view kSpecial = "*?[\\";
  std::string glob;
  for (const char c : text) {
    if (kSpecial.find(c) != kNowhere) glob += '\\';
    glob += c;
  }
  return glob;
}

}  // namespace convae
