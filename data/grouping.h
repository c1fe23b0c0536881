#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <regex>
#include <string>

namespace convae {

/// Which images belong together, such as pictures of one part, patient or scene. They stay on one
/// side of a split and are drawn together in a bootstrap.
///
///     Grouping grouping("part(\\d+)_");
///     grouping.of("shift2/part17_a.png");   // "17"
class Grouping {
public:
  /// `pattern`: a regular expression (ECMAScript) to search for in an image's relative name; "":
  /// every image is its own group. Throws OptionError where it is not one or longer than
  /// kLongestPattern characters: std::regex recurses at each parenthesis.
  explicit Grouping(const std::string& pattern = "");
  static constexpr std::size_t kLongestPattern = 1000;

  /// What the pattern's first parenthesis matches in the name, or without parentheses the whole
  /// match; the name itself if nothing matches.
  std::string of(const std::string& name) const;

  /// What to warn of where the pattern is not found in all of name(0) … name(count - 1); else, and
  /// without a pattern, "".
  std::string line_of_strays(std::size_t count,
                             const std::function<std::string(std::size_t)>& name) const;

  bool groups() const { return pattern_ != nullptr; }

private:
  std::shared_ptr<const std::regex> pattern_;  // none: no grouping
};

}  // namespace convae
