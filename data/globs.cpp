#include "convae/data/globs.h"

#include <string>

namespace convae {
namespace {

constexpr std::size_t kNowhere = std::string_view::npos;

/// Where the glob goes on after the one character that its beginning stands for; kNowhere where
/// that is not `c`.
std::size_t after_character(std::string_view glob, char c) {
  if (glob.empty()) return kNowhere;
  if (glob[0] == '?') return c == '/' ? kNowhere : 1;
  const std::size_t end = glob[0] == '[' ? glob.find(']', glob.size() > 1 ? 2 : 1) : kNowhere;
  if (end == kNowhere) {
    const std::size_t at = glob[0] == '\\' && glob.size() > 1 ? 1 : 0;
    return glob[at] == c ? at + 1 : kNowhere;
  }
  const bool negated = glob[1] == '!' || glob[1] == '^';
  bool found = false;
  for (std::size_t i = negated ? 2 : 1; i < end; ++i) {
    const bool is_range = i + 2 < end && glob[i + 1] == '-';
    const auto at_least = static_cast<unsigned char>(glob[i]);
    const auto at_most = static_cast<unsigned char>(glob[is_range ? i + 2 : i]);
    const auto is = static_cast<unsigned char>(c);
    found = found || (at_least <= is && is <= at_most);
    if (is_range) i += 2;
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
    const std::size_t step = n < name.size() ? after_character(rest, name[n]) : kNowhere;
    if (step != kNowhere) {
      g += step;
      ++n;
    } else if (one.glob != kNowhere && one.name < name.size() && name[one.name] != '/') {
      g = one.glob;
      n = ++one.name;
    } else if (all.glob != kNowhere && all.name < name.size()) {
      const std::size_t slash = all.folders ? name.find('/', all.name) : all.name;
      if (slash == kNowhere) return false;
      one = {};
      g = all.glob;
      n = all.name = slash + 1;
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

}  // namespace convae
