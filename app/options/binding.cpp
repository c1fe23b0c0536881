#include "convae/app/options/binding.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace convae::app {

std::string in_words(const std::vector<std::string>& choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i];
  }
  return text;
}

std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> elements;
  std::istringstream rest(text);
  for (std::string element; std::getline(rest, element, kBetween);) elements.push_back(element);
  return elements;
}

std::string join_list(const std::vector<std::string>& elements) {
  return fmt::format("{}", fmt::join(elements, std::string(1, kBetween)));
}

void not_a_choice(const std::string& text, const std::vector<std::string>& choices) {
  throw OptionError("expected " + in_words(choices) + did_you_mean(text, choices));
}

Format<Size> image_size(const std::string& none) {
  const auto read = [none](const std::string& text) {
    if (text == none) return Size{};
    const auto size = parse_size(text);
    if (size && std::min(size->h, size->w) >= 1 && std::max(size->h, size->w) <= kMaxSide) {
      return *size;
    }
    throw OptionError("expected " + none +
                      ", N or HxW with sides of at least 1, such as 96 or 96x128");
  };
  return {read, [none](Size size) { return size ? to_string(size) : none; }};
}

Format<std::optional<std::int64_t>> tile_side() {
  const Format<std::int64_t> side = number_or_auto<std::int64_t>(0, "a side in pixels or auto");
  return {.read = side.read,
          .write = [write = side.write](const std::optional<std::int64_t>& value) {
            return value ? write(*value) : "";
          }};
}

Format<double> duration() {
  const auto read = [](const std::string& text) {
    if (text == "none") return 0.0;
    if (const auto seconds = parse_duration(text)) return *seconds;
    throw OptionError("expected none or a time such as 90s, 10m, 2h or 1h30m");
  };
  return {read, [](double seconds) { return seconds > 0 ? duration_text(seconds) : "none"; }};
}

Format<std::int64_t> byte_count() {
  const auto read = [](const std::string& text) {
    if (const auto bytes = parse_bytes(text)) return *bytes;
    throw OptionError("expected a number of bytes such as 4096, 256M or 1G");
  };
  return {read, bytes_text};
}

Format<std::int64_t> memory_size() {
  constexpr std::int64_t kLeastMemory = 64 << 20;
  const auto read = [](const std::string& text) -> std::int64_t {
    if (text == "auto") return 0;
    const auto bytes = parse_bytes(text);
    if (bytes && *bytes >= kLeastMemory) return *bytes;
    throw OptionError("expected auto or a size of at least 64M, such as 800M or 4G");
  };
  return {read, [](std::int64_t bytes) { return bytes > 0 ? bytes_text(bytes) : "auto"; }};
}

}  // namespace convae::app
