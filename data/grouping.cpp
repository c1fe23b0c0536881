#include "convae/data/grouping.h"

#include "convae/core/errors.h"

#include <fmt/format.h>

namespace convae {

Grouping::Grouping(const std::string& pattern) {
  if (pattern.empty()) return;
  if (pattern.size() > kLongestPattern) {
    throw OptionError(fmt::format("group-regex has {} characters; at most {} can be used",
                                  pattern.size(), kLongestPattern));
  }
  try {
    pattern_ = std::make_shared<const std::regex>(pattern);
  } catch (const std::regex_error& error) {
    throw OptionError("group-regex '" + pattern + "' is not a regular expression: " + error.what());
  }
}

std::optional<std::string> Grouping::found_in(const std::string& name) const {
  std::smatch match;
  if (!pattern_ || !std::regex_search(name, match, *pattern_)) return std::nullopt;
  const std::string found = match.size() > 1 ? match.str(1) : match.str(0);
  return found.empty() ? std::nullopt : std::optional(found);
}

std::string strays_line(std::size_t strays, std::size_t count) {
  return fmt::format(
      "--group-regex does not match {} of {} images; each becomes a group of its own", strays,
      count);
}

}  // namespace convae
