#include "app/latents_file.h"

#include "data/file_io.h"
#include "training/run_folder.h"

#include <charconv>
#include <map>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

/// The name that printable() showed: csv_field() writes names so. What is no escape stays as it is.
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

/// Fields of one RFC 4180 line, taken off the front of the text. Names never hold line breaks:
/// csv_field() escapes them.
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

class TableReader {
public:
  TableReader(fs::path path, std::string_view text) : path_(std::move(path)), rest_(text) {
    // Spreadsheets put a byte order mark in front.
    if (rest_.starts_with("\xef\xbb\xbf")) rest_.remove_prefix(3);
    const std::vector<std::string> names = take_line(rest_);
    for (std::size_t i = 0; i < names.size(); ++i) columns_[names[i]] = i;
  }

  bool next() {
    if (rest_.empty()) return false;
    fields_ = take_line(rest_);
    ++line_;
    return true;
  }

  bool blank() const { return fields_.size() == 1 && fields_[0].empty(); }

  bool has(const std::string& column) const { return columns_.contains(column); }

  std::string text(const std::string& column) const {
    const auto found = columns_.find(column);
    if (found == columns_.end() || found->second >= fields_.size()) {
      fail("there is no '" + column + "'");
    }
    return fields_[found->second];
  }

  std::int64_t number(const std::string& column, std::int64_t low) const {
    const std::string field = text(column);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc{} || end != field.data() + field.size() || value < low ||
        value > kMaxSide) {
      fail(column + " is '" + printable(field) + "', expected a whole number from " +
           std::to_string(low));
    }
    return value;
  }

private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw std::runtime_error("'" + printable(path_.string()) + "', line " + std::to_string(line_) +
                             ": " + reason);
  }

  fs::path path_;
  std::string_view rest_;
  std::map<std::string, std::size_t> columns_;
  std::vector<std::string> fields_;
  std::int64_t line_ = 1;
};

}  // namespace

std::string write_latent_rows(const std::vector<LatentRow>& rows) {
  std::string text = "path,height,width,index,encoded_height,encoded_width,file\n";
  for (const LatentRow& row : rows) {
    text += csv_field(row.name);
    for (const std::int64_t value :
         {row.own.height, row.own.width, row.index, row.encoded.h, row.encoded.w}) {
      text += "," + std::to_string(value);
    }
    text += "," + csv_field(row.file) + "\n";
  }
  return text;
}

std::vector<LatentRow> read_latent_rows(const fs::path& path) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  TableReader table(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  std::vector<LatentRow> rows;
  while (table.next()) {
    if (table.blank()) continue;
    LatentRow row;
    row.name = name_of(table.text("path"));
    row.own = {table.number("height", 1), table.number("width", 1)};
    row.index = table.number("index", 0);
    row.encoded = table.has("encoded_height")
                      ? HW{table.number("encoded_height", 1), table.number("encoded_width", 1)}
                      : HW{row.own.height, row.own.width};
    if (table.has("file")) row.file = name_of(table.text("file"));
    rows.push_back(std::move(row));
  }
  return rows;
}

fs::path latent_table_path(const fs::path& latents) {
  std::error_code error;
  if (fs::is_directory(latents, error)) return latents / "latents.csv";
  return fs::path(latents).replace_extension(".csv");
}

}  // namespace convae::app
