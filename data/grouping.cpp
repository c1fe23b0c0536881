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

bool Grouping::matches(const std::string& name) const {
  return pattern_ != nullptr && std::regex_search(name, *pattern_);
}

}  // namespace convae
