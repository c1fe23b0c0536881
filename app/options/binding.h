#pragma once

#include "convae/app/options/options.h"
#include "convae/core/text.h"

#include <cmath>
#include <concepts>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace convae::app {

/// How TOML holds a value: `string` is a string and nothing else, `text` a string that may also
/// come as a number or a list, `list` a list of strings, whose text has a line for each and whose
/// flag may be repeated.
enum class ValueKind { string, text, integer, number, boolean, list };

/// How values of a type are read and written; `read` throws OptionError saying what was expected.
template <typename T>
struct Format {
  std::function<T(const std::string&)> read;
  std::function<std::string(const T&)> write = [](const T& value) { return to_string(value); };
  ValueKind kind = ValueKind::text;
  std::vector<std::string> choices = {};  ///< all valid values, where the list is fixed
};

/// "a, b or c".
std::string in_words(const std::vector<std::string>& choices);

[[noreturn]] void not_a_choice(const std::string& text, const std::vector<std::string>& choices);

/// Between the elements of a list in an option's text: in no argument and no file name.
inline constexpr char kBetween = '\0';
/// "" is a list without elements.
std::vector<std::string> split_list(const std::string& text);
std::string join_list(const std::vector<std::string>& elements);

/// The member's type says how its value is read and written; an enum takes its words from its table
/// of names (core/names.h).
template <typename T>
Format<T> format_of() {
  if constexpr (NamedEnum<T>) {
    const auto read = [](const std::string& text) {
      const auto value = parse_name<T>(text);
      if (!value) not_a_choice(text, all_names<T>());
      return *value;
    };
    return {.read = read, .choices = all_names<T>()};
  } else if constexpr (std::same_as<T, bool>) {
    const auto read = [](const std::string& text) {
      if (text != "true" && text != "false") not_a_choice(text, {"true", "false"});
      return text == "true";
    };
    return {read,
            [](bool value) { return value ? "true" : "false"; },
            ValueKind::boolean,
            {"true", "false"}};
  } else if constexpr (std::integral<T>) {
    const auto read = [](const std::string& text) {
      if (const auto value = parse_as<T>(text)) return *value;
      throw OptionError(std::is_unsigned_v<T> ? "expected a whole number of at least 0"
                                              : "expected a whole number");
    };
    return {read, [](T value) { return std::to_string(value); }, ValueKind::integer};
  } else if constexpr (std::same_as<T, double>) {
    const auto read = [](const std::string& text) {
      if (const auto value = parse_number(text)) return *value;
      throw OptionError("expected a number");
    };
    return {read, number_text, ValueKind::number};
  } else if constexpr (std::same_as<T, Size>) {
    return {[](const std::string& text) {
      if (const auto value = parse_size(text)) return *value;
      throw OptionError("expected N or HxW, such as 3 or 3x5");
    }};
  } else if constexpr (std::same_as<T, std::vector<std::string>>) {
    return {split_list, join_list, ValueKind::list};
  } else {
    return {std::identity{}, std::identity{}, ValueKind::string};
  }
}

/// The part of Options that has the type Part, const or not as `o` is.
template <typename Part, typename AnyOptions>
auto& part_of(AnyOptions& o) {
  constexpr bool is_const = std::is_const_v<AnyOptions>;
  using Wanted = std::conditional_t<is_const, const Part, Part>;
  std::conditional_t<is_const, const convae::RunOptions, convae::RunOptions>& run = o.run;
  return std::get<Wanted&>(
      std::tie(o.data, o.levels, o.levels.defaults, o.model, o.train, o.run, run, o.call));
}

/// What ties an option to a member of Options, such as &TrainOptions::lr.
struct Binding {
  ValueKind kind;
  std::vector<std::string> choices;
  std::function<void(Options&, const std::string&)> set;
  std::function<std::string(const Options&)> get;

  template <typename Part, typename T>
  Binding(T Part::*member, const Format<T>& format = format_of<T>())
      : kind(format.kind),
        choices(format.choices),
        set([member, read = format.read](Options& o, const std::string& text) {
          part_of<Part>(o).*member = read(text);
        }),
        get([member, write = format.write](const Options& o) {
          return write(part_of<Part>(o).*member);
        }) {}

  /// A member with a grammar of its own.
  template <typename Part, typename T>
  Binding(T Part::*member, T (*parse)(const std::string&)) : Binding(member, Format<T>{parse}) {}

  /// A choice without a default.
  template <typename Part, NamedEnum Enum>
  Binding(std::optional<Enum> Part::*member)
      : Binding(member,
                Format<std::optional<Enum>>{
                    .read = format_of<Enum>().read,
                    .write = [](const auto& value) { return value ? to_string(*value) : ""; },
                    .choices = all_names<Enum>()}) {}
};

/// N or HxW in pixels, or the word for none.
Format<Size> image_size(const std::string& none);

/// A number, or "auto": `automatic`. `expected` describes both.
template <typename T>
Format<T> number_or_auto(T automatic, const std::string& expected) {
  Format<T> format = format_of<T>();
  format.read = [automatic, expected](const std::string& text) {
    if (text == "auto") return automatic;
    const auto number = parse_as<T>(text);
    if (number && *number != automatic && std::isfinite(static_cast<double>(*number)))
      return *number;
    throw OptionError("expected " + expected);
  };
  format.write = [automatic, write = format.write](const T& value) {
    return value == automatic ? "auto" : write(value);
  };
  return format;
}

/// Bytes as 256M or 1G: 2^20 and 2^30.
Format<std::int64_t> byte_count();

/// A side in pixels, or auto: 0.
Format<std::optional<std::int64_t>> tile_side();

/// Seconds as a time such as 1h30m, or none: 0.
Format<double> duration();

/// Bytes such as 4G, or what the machine has: 0, "auto".
Format<std::int64_t> memory_size();

}  // namespace convae::app
