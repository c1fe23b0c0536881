#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace convae {

/// Reads a CSV table (RFC 4180) row by row, by the names in its first line. Fields never hold line
/// breaks: csv_field() escapes them. Throws std::runtime_error with the file, line and column.
///
///     CsvReader table(path);
///     while (table.next()) use(table.text("path"), table.number("mse"));
class CsvReader {
public:
  explicit CsvReader(std::filesystem::path path);

  /// Goes to the next row; false at the end. Skips blank lines.
  bool next();

  bool has(const std::string& column) const { return columns_.contains(column); }
  std::string text(const std::string& column) const;
  /// What csv_field() was given, its escapes undone.
  std::string name(const std::string& column) const;
  /// A whole number from `low` to `high`.
  std::int64_t integer(const std::string& column, std::int64_t low,
                       std::int64_t high = std::int64_t{1} << 53) const;
  /// NaN where the field is empty.
  double number(const std::string& column) const;

private:
  [[noreturn]] void fail(const std::string& reason) const;

  std::filesystem::path path_;
  std::string text_;
  std::string_view rest_;
  std::map<std::string, std::size_t> columns_;
  std::vector<std::string> fields_;
  std::int64_t line_ = 1;
};

/// A field of a CSV file after RFC 4180: quoted where it holds a comma, a quote or a line break.
/// Control characters and bytes that are not UTF-8 are escaped first, as printable() does.
std::string csv_field(const std::string& text);

/// A number for a CSV file: the shortest text that reads back as the same double; empty for NaN.
std::string csv_number(double value);

}  // namespace convae
