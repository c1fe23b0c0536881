#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace convae {

/// Without blanks and tabs at both ends.
std::string_view trimmed(std::string_view text);

/// A finite number that takes up the whole text; never depends on the locale.
std::optional<double> parse_number(std::string_view text);

/// The shortest text that parse_number() reads back as the same number.
std::string number_text(double value);

}  // namespace convae
