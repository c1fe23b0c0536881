#pragma once

#include <cstddef>
#include <memory>
#include <optional>
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
  /// match; nullopt where that is nothing, or without a pattern.
  std::optional<std::string> found_in(const std::string& name) const;

  /// The same, or else the name: an image whose name does not match is a group of its own.
  std::string of(const std::string& name) const { return found_in(name).value_or(name); }

  bool groups() const { return pattern_ != nullptr; }

private:
  std::shared_ptr<const std::regex> pattern_;  // none: no grouping
};

/// What to warn of where a pattern is not found in so many of all names.
std::string strays_line(std::size_t strays, std::size_t count);

}  // namespace convae
