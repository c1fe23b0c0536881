#pragma once

#include <filesystem>
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

/// A name as it may be shown on a terminal or in a log: control characters, backslashes and
/// bytes that are not valid UTF-8 become `\n`, `\t`, `\\` or `\xNN`; all else stays as it is.
std::string printable(std::string_view name);

/// The same in quotes, as messages name things: 'photos/a.png'.
std::string in_quotes(std::string_view name);
std::string in_quotes(const std::filesystem::path& path);
inline std::string in_quotes(const std::string& name) { return in_quotes(std::string_view(name)); }
inline std::string in_quotes(const char* name) { return in_quotes(std::string_view(name)); }

}  // namespace convae
