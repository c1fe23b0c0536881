#include "convae/app/options/config_file.h"

// Errors are reported with line numbers, which the exceptions carry.
#define TOML_EXCEPTIONS 1
#include "convae/app/options/option_table.h"
#include "convae/app/options/spelling.h"
#include "convae/core/files.h"
#include "convae/core/text.h"

#include <toml++/toml.h>

#include <array>
#include <charconv>
#include <sstream>

namespace convae::app {
namespace {

constexpr std::int64_t kMaxConfigBytes = 1 << 20;
constexpr std::array kTables = {Group::data, Group::model, Group::train, Group::run};

[[noreturn]] void refuse_config(const std::string& name, const toml::source_region& where,
                                const std::string& reason) {
  throw UsageError(name + ":" + std::to_string(where.begin.line) + ": " + reason);
}

/// A TOML value as the flag's text: `levels = [32, "64:k5"]` is "32,64:k5".
std::string value_text(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* number = node.as_floating_point()) return number_text(number->get());
  if (const auto* boolean = node.as_boolean()) return boolean->get() ? "true" : "false";
  if (const auto* array = node.as_array()) {
    std::string joined;
    for (const toml::node& element : *array) {
      if (element.is_array() || element.is_table()) throw UsageError("expected a flat list");
      joined += (joined.empty() ? "" : ",") + value_text(element);
    }
    return joined;
  }
  throw UsageError("expected a value");
}

std::vector<std::string> keys_of(Group group) {
  std::vector<std::string> names;
  for (const OptionSpec& option : option_table()) {
    if (option.group == group) names.push_back(option.name);
  }
  return names;
}

void read_table(const toml::table& table, Group group, const std::string& name, Options& options,
                std::set<std::string>& given) {
  for (const auto& [key, node] : table) {
    const OptionSpec* option = find_option(group, key.str());
    if (option == nullptr) {
      refuse_config(name, key.source(),
                    "unknown key '" + printable(std::string(key.str())) + "' in [" +
                        to_string(group) + "]" + did_you_mean(key.str(), keys_of(group)));
    }
    std::string text;
    try {
      text = value_text(node);
      if (option->kind == ValueKind::string && !node.is_string()) {
        throw UsageError("expected a string in quotes");
      }
      option->set(options, text);
      given.insert(option->flag());
    } catch (const UsageError& error) {
      refuse_config(name, node.source(),
                    option->name + " = '" + printable(text) + "': " + error.what());
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

void insert(toml::table& table, const OptionSpec& option, const std::string& value) {
  switch (option.kind) {
    case ValueKind::integer: {
      std::int64_t integer = 0;
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), integer);
      // TOML's integers are signed; a seed above 2^63 is kept as text, which reads back the same.
      if (parsed.ec == std::errc{}) {
        table.insert(option.name, integer);
      } else {
        table.insert(option.name, value);
      }
      return;
    }
    case ValueKind::number: {
      table.insert(option.name, parse_number(value).value());
      return;
    }
    case ValueKind::boolean:
      table.insert(option.name, value == "true");
      return;
    case ValueKind::string:
    case ValueKind::text:
      table.insert(option.name, value);
      return;
  }
}

}  // namespace

std::set<std::string> read_config(std::string_view text, const std::string& name,
                                  Options& options) {
  std::set<std::string> given;
  std::vector<std::string> tables;
  tables.reserve(kTables.size());
  for (const Group group : kTables) tables.emplace_back(to_string(group));
  for (const auto& [key, node] : parse_toml(text, name)) {
    const auto found = std::find(tables.begin(), tables.end(), key.str());
    if (found == tables.end() || !node.is_table()) {
      const bool is_option_elsewhere = !node.is_table();
      refuse_config(
          name, key.source(),
          "unknown table '" + printable(std::string(key.str())) + "'" +
              (is_option_elsewhere
                   ? "; options stand in one of the tables [data], [model], [train], [run]"
                   : did_you_mean(key.str(), tables)));
    }
    read_table(*node.as_table(), kTables[static_cast<std::size_t>(found - tables.begin())], name,
               options, given);
  }
  return given;
}

std::set<std::string> read_config_file(const std::filesystem::path& path, Options& options) {
  std::vector<std::uint8_t> bytes;
  try {
    bytes = read_file(path, kMaxConfigBytes);
  } catch (const std::exception& error) {
    throw UsageError(std::string("--config: ") + error.what());
  }
  return read_config({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                     printable(path.string()), options);
}

std::string write_config(const Options& options) {
  std::ostringstream text;
  text << "# Every option of this run; train --config FILE repeats it (with --init, where that was "
          "given).\n";
  for (const Group group : kTables) {
    toml::table values;
    for (const OptionSpec& option : option_table()) {
      if (option.group == group) insert(values, option, option.get(options));
    }
    text << "\n[" << to_string(group) << "]\n" << values << "\n";
  }
  return text.str();
}

}  // namespace convae::app
