#pragma once

#include <cstddef>
#include <memory>
#include <regex>
#include <string>

namespace convae {

/// Which images belong together: pictures of one part, of one patient, of one scene. Together they
/// are on one side of a split, and together they are drawn in a bootstrap.
///
///     Grouping grouping("part(\\d+)_");
///     grouping.of("shift2/part17_a.png");   // "17"
class Grouping {
public:
  /// `pattern`: a regular expression (ECMAScript) that is looked for in an image's relative name;
  /// "": every image is a group of its own. Throws OptionError where it is not one, or
  /// has more than kLongestPattern characters: the library's parser calls itself for each
  /// parenthesis.
  explicit Grouping(const std::string& pattern = "");
  static constexpr std::size_t kLongestPattern = 1000;

  /// What the pattern's first parenthesis matches in the name, or without parentheses the whole
  /// match; a name that does not match, or where that is empty, is its own group.
  std::string of(const std::string& name) const;

  /// Whether the pattern is found in the name; false without a pattern.
  bool matches(const std::string& name) const;

  bool groups() const { return pattern_ != nullptr; }

private:
  std::shared_ptr<const std::regex> pattern_;  // none: no grouping
};

}  // namespace convae
