#include "convae/app/options/binding.h"

#include "convae/app/options/spelling.h"

#include <algorithm>

namespace convae::app {

std::string in_words(const std::vector<std::string>& choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + choices[i];
  }
  return text;
}

void not_a_choice(const std::string& text, const std::vector<std::string>& choices) {
  throw UsageError("expected " + in_words(choices) + did_you_mean(text, choices));
}

Format<Size> image_size(const std::string& none) {
  const auto read = [none](const std::string& text) {
    if (text == none) return Size{};
    const auto size = parse_size(text);
    if (size && std::min(size->h, size->w) >= 1 && std::max(size->h, size->w) <= kMaxSide) {
      return *size;
    }
    throw UsageError("expected " + none +
                     ", N or HxW with sides of at least 1, such as 96 or 96x128");
  };
  return {read, [none](Size size) { return size ? to_string(size) : none; }};
}

Format<std::string> level_list() {
  const auto read = [](const std::string& text) {
    parse_levels(text);
    return text;
  };
  return {read, std::identity{}};
}

}  // namespace convae::app
