#include "convae/inference/latents_file.h"

#include "convae/core/csv.h"

#include <charconv>
#include <string_view>
#include <utility>

namespace convae {
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

}  // namespace

std::string write_latent_rows(const std::vector<LatentRow>& rows) {
  std::string text = "path,height,width,index,encoded_height,encoded_width,file\n";
  for (const LatentRow& row : rows) {
    text += csv_field(row.name);
    for (const std::int64_t value :
         {row.own.h, row.own.w, row.index, row.encoded.h, row.encoded.w}) {
      text += "," + std::to_string(value);
    }
    text += "," + csv_field(row.file) + "\n";
  }
  return text;
}

std::vector<LatentRow> read_latent_rows(const fs::path& path) {
  CsvReader table(path);
  const auto whole = [&](const char* column, std::int64_t low) {
    return table.integer(column, low, kMaxSide);
  };
  std::vector<LatentRow> rows;
  while (table.next()) {
    LatentRow row;
    row.name = name_of(table.text("path"));
    row.own = {whole("height", 1), whole("width", 1)};
    row.index = whole("index", 0);
    row.encoded = table.has("encoded_height")
                      ? Size{whole("encoded_height", 1), whole("encoded_width", 1)}
                      : row.own;
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

}  // namespace convae
