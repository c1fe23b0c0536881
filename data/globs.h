#pragma once

#include <string>
#include <string_view>

namespace convae {

/// Whether a name, '/' between its parts, matches. `*` and `?` stand for characters but '/', `**`
/// for any, `[a-z]` and `[!a-z]` for one, `\*` for a star; `**/` may also stand for no folder. A
/// glob without '/' is compared with the name's last part, and one that ends in '/' matches all in
/// that folder. By hand, since fnmatch(3) knows no `**`.
bool matches_glob(std::string_view glob, std::string_view name);

/// The glob that stands for this text alone.
std::string glob_of(std::string_view text);

}  // namespace convae
