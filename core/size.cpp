#include "convae/core/size.h"

#include <charconv>

namespace convae {

std::vector<std::int64_t> per_axis(Size value) { return {value.h, value.w}; }

std::string to_string(Size size) { return std::to_string(size.h) + "x" + std::to_string(size.w); }

std::optional<std::int64_t> take_count(std::string_view& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // from_chars takes a minus sign; no setting here may be negative.
  if (error != std::errc{} || text.front() == '-') return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

std::optional<Size> take_size(std::string_view& text) {
  const auto h = take_count(text);
  if (!h) return std::nullopt;
  if (!text.starts_with('x')) return Size{*h, *h};
  text.remove_prefix(1);
  const auto w = take_count(text);
  if (!w) return std::nullopt;
  return Size{*h, *w};
}

std::optional<Size> parse_size(std::string_view text) {
  const auto value = take_size(text);
  return text.empty() ? value : std::nullopt;
}

}  // namespace convae
