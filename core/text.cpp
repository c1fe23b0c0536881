#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace convae {
namespace {

constexpr std::string_view kByteUnits = "KMGT";  // of 1024 each
constexpr std::pair<char, double> kTimeUnits[] = {{'h', 3600}, {'m', 60}, {'s', 1}};
constexpr double kMostSeconds = 1e9;  // thirty years
constexpr double kMostBytes = 1e18;

/// The length of the valid UTF-8 sequence at the start of `text`, 0 where there is none.
/// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                             : lead >= 0xE0 && lead <= 0xEF ? 3
                             : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                            : 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool out_of_range = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                            (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return out_of_range ? 0 : length;
}

/// C0 and DEL, and C1 (U+0080 to U+009F), which some terminals obey too.
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  return first < 0x20 || first == 0x7F ||
         (first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0);
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

std::optional<double> parse_number(std::string_view text) {
  const auto number = parse_as<double>(text);
  return number && std::isfinite(*number) ? number : std::nullopt;
}

std::string number_text(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof(text), value).ptr};
}

std::optional<double> parse_duration(std::string_view text) {
  double sum = 0;
  for (const auto& [unit, seconds] : kTimeUnits) {
    const std::size_t length = text.find(unit);
    if (length == std::string_view::npos) continue;
    const auto number = parse_number(text.substr(0, length));
    if (!number || *number < 0) return std::nullopt;
    sum += *number * seconds;
    text.remove_prefix(length + 1);
  }
  const bool is_time = text.empty() && sum > 0 && sum <= kMostSeconds;
  return is_time ? std::optional(sum) : std::nullopt;
}

std::string duration_text(double seconds) {
  std::string text;
  for (const auto& [unit, size] : kTimeUnits) {
    const double count = unit == 's' ? seconds : std::floor(seconds / size);
    if (count > 0) text += number_text(count) + unit;
    seconds -= count * size;
  }
  return text.empty() ? "0s" : text;
}

std::optional<std::int64_t> parse_bytes(std::string_view text) {
  const std::size_t unit = text.empty() ? std::string_view::npos : kByteUnits.find(text.back());
  if (unit != std::string_view::npos) text.remove_suffix(1);
  const auto number = parse_number(text);
  if (!number) return std::nullopt;
  const int shift = unit == std::string_view::npos ? 0 : 10 * (static_cast<int>(unit) + 1);
  const double bytes = std::ldexp(*number, shift);
  if (bytes < 1 || bytes > kMostBytes) return std::nullopt;
  return static_cast<std::int64_t>(bytes);
}

std::string bytes_text(std::int64_t bytes) {
  std::size_t unit = 0;
  while (unit < kByteUnits.size() && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + (unit > 0 ? std::string(1, kByteUnits[unit - 1]) : "");
}

std::string printable(std::string_view name) {
  std::string shown;
  while (!name.empty()) {
    const auto length = utf8_length(name);
    const auto character = name.substr(0, std::max<std::size_t>(length, 1));
    name.remove_prefix(character.size());
    if (character == "\n") {
      shown += "\\n";
    } else if (character == "\t") {
      shown += "\\t";
    } else if (character == "\\") {
      shown += "\\\\";
    } else if (length > 0 && !is_control(character)) {
      shown += character;
    } else {
      for (const char byte : character) {
        shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
      }
    }
  }
  return shown;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string json_text(std::string_view name) {
  return is_utf8(name) ? std::string(name) : printable(name);
}

std::string in_quotes(std::string_view name) { return "'" + printable(name) + "'"; }

std::string in_quotes(const std::filesystem::path& path) { return in_quotes(path.native()); }

std::string some_in_quotes(const std::vector<std::string>& names) {
  constexpr std::size_t kSome = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kSome); ++i) {
    text += (i > 0 ? ", " : "") + in_quotes(names[i]);
  }
  if (names.size() > kSome) text += fmt::format(" and {} more", names.size() - kSome);
  return text;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         const std::string& dashes) {
  std::string best;
  // A suggestion shares a letter with the word.
  std::size_t best_distance = std::min(word.size(), std::max<std::size_t>(2, word.size() / 3) + 1);
  for (const std::string& candidate : candidates) {
    // Levenshtein distance, one row of the table at a time.
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (const char c : word) {
      std::size_t diagonal = row[0]++;
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t replaced = diagonal + (c != candidate[j] ? 1 : 0);
        diagonal = row[j + 1];
        row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best.empty() ? "" : "; did you mean '" + dashes + best + "'?";
}

std::string shell_word(const std::string& word) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  // What printable() escapes, the shell's $'…' understands.
  const std::string shown = printable(word);
  const bool escaped = shown != word;
  std::string quoted = escaped ? "$'" : "'";
  for (const char c : shown) {
    quoted += c != '\'' ? std::string(1, c) : escaped ? "\\'" : "'\\''";
  }
  return quoted + "'";
}

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace convae
