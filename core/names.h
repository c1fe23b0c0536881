#pragma once

#include "convae/core/api.h"

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

/// An enum's names are in one table beside it, and all that reads or writes them (flags, TOML,
/// checkpoints, exports, completion) uses that table:
///
///     enum class Norm { batch, none };
///     constexpr auto names(Norm) {
///       return std::to_array<Name<Norm>>({{Norm::batch, "batch"}, {Norm::none, "none"}});
///     }
///     to_string(Norm::none);      // "none"
///     parse_name<Norm>("batch");  // Norm::batch
namespace CONVAE_API convae {

template <typename Enum>
struct Name {
  Enum value;
  const char* name;
};

/// An enum with a table of names.
template <typename T>
concept NamedEnum = std::is_enum_v<T> && requires(T value) {
  names(value);
};

template <NamedEnum Enum>
constexpr const char* to_string(Enum value) {
  for (const auto& [candidate, name] : names(value)) {
    if (candidate == value) return name;
  }
  return "";
}

/// nullopt for text that is none of the names.
template <NamedEnum Enum>
std::optional<Enum> parse_name(std::string_view text) {
  for (const auto& [value, name] : names(Enum{})) {
    if (text == name) return value;
  }
  return std::nullopt;
}

/// All names, in the table's order.
template <NamedEnum Enum>
std::vector<std::string> all_names() {
  std::vector<std::string> all;
  for (const auto& entry : names(Enum{})) all.emplace_back(entry.name);
  return all;
}

}  // namespace convae
