#include "convae/app/options/config_file.h"

// Errors are reported with line numbers, which the exceptions carry.
#define TOML_EXCEPTIONS 1
#include "convae/app/options/option_table.h"
#include "convae/core/files.h"
#include "convae/core/text.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <array>
#include <sstream>

namespace convae::app {
namespace {

constexpr std::int64_t kMaxConfigBytes = 64 << 20;  // with the names of a fold's images
constexpr std::array kTables = {Group::data, Group::model, Group::train, Group::run};

[[noreturn]] void refuse_config(const std::string& name, const toml::source_region& where,
                                const std::string& reason) {
  throw OptionError(name + ":" + std::to_string(where.begin.line) + ": " + reason);
}

/// kBetween is one, and no command line can hold one.
void require_without_nul(const std::string& text) {
  require_option(text.find('\0') == std::string::npos, "it holds a NUL character");
}

/// A TOML value as the flag's text: `levels = [32, "64:k5"]` is "32,64:k5". A list's elements stand
/// apart by `separator`.
std::string value_text(const toml::node& node, const std::string& separator = ",") {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* number = node.as_floating_point()) return number_text(number->get());
  if (const auto* boolean = node.as_boolean()) return boolean->get() ? "true" : "false";
  if (const auto* array = node.as_array()) {
    std::string joined;
    for (const toml::node& element : *array) {
      if (element.is_array() || element.is_table()) throw OptionError("expected a flat list");
      const std::string text = value_text(element);
      require_without_nul(text);
      joined += (joined.empty() ? "" : separator) + text;
    }
    return joined;
  }
  throw OptionError("expected text in quotes, a number, true, false or a list of them");
}

/// "; it belongs in [data]", or a key of `group` that is written much the same.
std::string where_else(const std::string& word, Group group) {
  for (const Group other : kTables) {
    if (find_option(other, word)) return fmt::format("; it belongs in [{}]", to_string(other));
  }
  return did_you_mean(word, option_names(group));
}

void read_table(const toml::table& table, Group group, const std::string& name, Options& options,
                std::set<std::string>& given) {
  for (const auto& [key, node] : table) {
    std::string word(key.str());
    if (group == Group::model && word == "output") {  // its name in version 0.1
      word = "output-activation";
      if (table.contains(word)) {
        refuse_config(name, key.source(), "output is the old name of output-activation; keep one");
      }
    }
    const OptionSpec* option = find_option(group, word);
    if (option == nullptr) {
      refuse_config(name, key.source(),
                    "unknown key '" + printable(word) + "' in [" + to_string(group) + "]" +
                        where_else(word, group));
    }
    std::string text;
    try {
      text =
          value_text(node, std::string(1, option->value.kind == ValueKind::list ? kBetween : ','));
      if (option->value.kind == ValueKind::string) {
        require_option(node.is_string(), "expected a string in quotes");
      }
      if (node.is_string()) require_without_nul(text);
      option->value.set(options, text);
      given.insert(option->name);
    } catch (const OptionError& error) {
      const std::string value = text.empty() && !node.is_string() ? "" : " = " + in_quotes(text);
      refuse_config(name, node.source(), std::string(key.str()) + value + ": " + error.what());
    }
  }
}

toml::table parse_toml(std::string_view text, const std::string& name) {
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    refuse_config(name, error.source(), std::string(error.description()));
  }
}

/// Numbers as number_text() has them, since the library writes 0.1 as 0.10000000000000001.
std::string toml_text(const OptionSpec& option, const std::string& value) {
  const ValueKind kind = option.value.kind;
  const bool is_whole = parse_as<std::int64_t>(value).has_value();
  const bool is_digits = !value.empty() && value.find_first_not_of("-0123456789") == value.npos;
  if (kind == ValueKind::number && is_digits) return value + ".0";
  // TOML's integers are signed; a seed above 2^63 is kept as text, which reads back the same.
  if (kind == ValueKind::boolean || (kind == ValueKind::integer && is_whole) ||
      (kind == ValueKind::number && parse_number(value))) {
    return value;
  }
  std::ostringstream text;
  auto style = toml::toml_formatter::default_flags;
  if (value.find('\n') != value.npos) {  // in several lines, the first of them would be lost
    using enum toml::format_flags;
    style &= ~(allow_multi_line_strings | allow_literal_strings);
  }
  // TOML is UTF-8: of a name that is not, the library would leave bytes out.
  if (kind == ValueKind::list) {
    toml::array list;
    for (const std::string& element : split_list(value)) list.push_back(json_text(element));
    text << toml::toml_formatter(list, style);
  } else {
    text << toml::toml_formatter(toml::value<std::string>(json_text(value)), style);
  }
  return text.str();
}

}  // namespace

std::set<std::string> read_config(std::string_view text, const std::string& name,
                                  Options& options) {
  std::set<std::string> given;
  std::vector<std::string> tables;
  for (const Group group : kTables) tables.emplace_back(to_string(group));
  for (const auto& [key, node] : parse_toml(text, name)) {
    const auto group = parse_name<Group>(key.str());
    if (!node.is_table() || !group || *group == Group::call) {
      refuse_config(
          name, key.source(),
          "unknown table '" + printable(key.str()) + "'" +
              (node.is_table()
                   ? did_you_mean(key.str(), tables)
                   : "; options stand in one of the tables [data], [model], [train], [run]"));
    }
    read_table(*node.as_table(), *group, name, options, given);
  }
  return given;
}

std::set<std::string> read_config_file(const std::filesystem::path& path, Options& options) {
  std::string text;
  try {
    text = read_text(path, kMaxConfigBytes);
  } catch (const std::exception& error) {
    throw OptionError(std::string("--config: ") + error.what());
  }
  return read_config(text, printable(path.string()), options);
}

std::string write_config(const Options& options) {
  std::ostringstream text;
  text << "# Every option of this run; train --config FILE repeats it (with --init, where that was "
          "given).\n";
  for (const Group group : kTables) {
    text << "\n[" << to_string(group) << "]\n";
    for (const OptionSpec* option : options_of(group)) {
      text << option->name << " = " << toml_text(*option, option->get(options)) << "\n";
    }
  }
  return text.str();
}

}  // namespace convae::app
