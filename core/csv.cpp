#include "convae/core/csv.h"

#include "convae/core/files.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace convae {
namespace {

/// Fields of one line, taken off the front of the text.
std::vector<std::string> take_line(std::string_view& text) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  std::size_t i = 0;
  for (; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        fields.back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        fields.back() += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
    } else if (c == '\n') {
      break;
    } else if (c != '\r') {
      fields.back() += c;
    }
  }
  text.remove_prefix(std::min(text.size(), i + 1));
  return fields;
}

/// The name that printable() showed. What is no escape stays as it is.
std::string name_of(std::string_view shown) {
  std::string name;
  while (!shown.empty()) {
    std::size_t length = 2;
    unsigned byte = 0;
    if (shown.starts_with("\\n")) {
      byte = '\n';
    } else if (shown.starts_with("\\t")) {
      byte = '\t';
    } else if (shown.starts_with("\\\\")) {
      byte = '\\';
    } else if (shown.starts_with("\\x") && shown.size() >= 4) {
      length = 4;
      const char* end = shown.data() + length;
      if (std::from_chars(shown.data() + 2, end, byte, /*base=*/16).ptr != end) byte = 0;
    }
    if (byte == 0) {
      length = 1;
      byte = static_cast<unsigned char>(shown.front());
    }
    name += static_cast<char>(byte);
    shown.remove_prefix(length);
  }
  return name;
}

}  // namespace

CsvReader::CsvReader(std::filesystem::path path)
    : path_(std::move(path)), text_(read_text(path_)), rest_(text_) {
  // Spreadsheets put a byte order mark in front.
  if (rest_.starts_with("\xef\xbb\xbf")) rest_.remove_prefix(3);
  const std::vector<std::string> names = take_line(rest_);
  for (std::size_t i = 0; i < names.size(); ++i) columns_[names[i]] = i;
}

bool CsvReader::next() {
  while (!rest_.empty()) {
    fields_ = take_line(rest_);
    ++line_;
    const bool blank = fields_.size() == 1 && fields_[0].empty();
    if (!blank) return true;
  }
  return false;
}

std::string CsvReader::text(const std::string& column) const {
  const auto found = columns_.find(column);
  if (found == columns_.end() || found->second >= fields_.size()) {
    fail(fmt::format("there is no '{}'", column));
  }
  return fields_[found->second];
}

std::string CsvReader::name(const std::string& column) const { return name_of(text(column)); }

std::int64_t CsvReader::integer(const std::string& column, std::int64_t low,
                                std::int64_t high) const {
  const std::string field = text(column);
  const auto value = parse_as<std::int64_t>(field);
  if (!value || *value < low || *value > high) {
    fail(fmt::format("{} is {}, expected a whole number from {}", column, in_quotes(field), low));
  }
  return *value;
}

double CsvReader::number(const std::string& column) const {
  const std::string field = text(column);
  if (field.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto value = parse_as<double>(field);  // a loss that overflowed is written "inf"
  if (!value) fail(fmt::format("{} is {}, expected a number", column, in_quotes(field)));
  return *value;
}

void CsvReader::fail(const std::string& reason) const {
  throw std::runtime_error(fmt::format("{}, line {}: {}", in_quotes(path_), line_, reason));
}

std::string csv_field(const std::string& text) {
  const std::string shown = printable(text);
  if (shown.find_first_of(",\"") == std::string::npos) return shown;
  std::ostringstream quoted;
  quoted << std::quoted(shown, '"', /*escape=*/'"');
  return quoted.str();
}

std::string csv_number(double value) { return std::isnan(value) ? "" : number_text(value); }

}  // namespace convae
