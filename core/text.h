#pragma once

#include "convae/core/api.h"

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CONVAE_API convae {

/// Without blanks and tabs at both ends.
std::string_view trimmed(std::string_view text);

/// A number that is the whole text, whatever the locale; nullopt for other text.
template <typename Number>
std::optional<Number> parse_as(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_whole = error == std::errc{} && end == text.data() + text.size();
  return is_whole ? std::optional(number) : std::nullopt;
}

/// A finite number, likewise.
std::optional<double> parse_number(std::string_view text);

/// The shortest text that parse_number() reads back as the same number.
std::string number_text(double value);

/// Seconds of "90s", "10m", "2h" or "1h30m": hours, minutes and seconds in this order, each at most
/// once; nullopt for other text, and for no time at all.
std::optional<double> parse_duration(std::string_view text);

/// The same the other way: 5400 → "1h30m".
std::string duration_text(double seconds);

/// Bytes of "4096", "256M", "4G" or "1.5T", with units of 1024; nullopt for other text, and for
/// none at all.
std::optional<std::int64_t> parse_bytes(std::string_view text);

/// The same the other way, in the largest unit that needs no fraction: 1.5·2^30 → "1536M".
std::string bytes_text(std::int64_t bytes);

/// A name that is safe on a terminal or in a log: control characters, backslashes and bytes that
/// are not valid UTF-8 become `\n`, `\t`, `\\` or `\xNN`.
std::string printable(std::string_view name);

bool is_utf8(std::string_view text);

/// A name in JSON, which escapes what is special to it: as it is, or as printable() shows it where
/// it is not UTF-8.
std::string json_text(std::string_view name);

/// What printable() shows in quotes, as messages name things: 'photos/a.png'.
std::string in_quotes(std::string_view name);
std::string in_quotes(const std::filesystem::path& path);
inline std::string in_quotes(const std::string& name) { return in_quotes(std::string_view(name)); }
inline std::string in_quotes(const char* name) { return in_quotes(std::string_view(name)); }

/// The first names in quotes, and how many more there are: "'a', 'b', 'c' and 4 more".
std::string some_in_quotes(const std::vector<std::string>& names);

/// "; did you mean 'x'?" with the candidate nearest to `word` in edits, or "" if none is near.
/// `dashes` are shown before it.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         const std::string& dashes = "");

/// A word as it can be given to a shell again: in quotes where it has to be.
std::string shell_word(const std::string& word);

/// The text up to its first line break: what() of LibTorch's errors has a backtrace after that.
std::string first_line(std::string_view text);

}  // namespace convae
