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

std::string Grouping::of(const std::string& name) const {
  std::smatch match;
  if (!pattern_ || !std::regex_search(name, match, *pattern_)) return name;
  const std::string found = match.size() > 1 ? match.str(1) : match.str(0);
  return found.empty() ? name : found;
}

std::string Grouping::line_of_strays(std::size_t count,
                                     const std::function<std::string(std::size_t)>& name) const {
  std::size_t strays = 0;
  for (std::size_t i = 0; groups() && i < count; ++i) {
    strays += std::regex_search(name(i), *pattern_) ? 0 : 1;
  }
  return strays == 0 ? ""
                     : fmt::format(
                           "--group-regex does not match {} of {} images; each becomes a "
                           "group of its own",
                           strays, count);
}

}  // namespace convae
