#include "convae/inference/latents_file.h"

#include "convae/core/csv.h"

namespace convae {
namespace fs = std::filesystem;

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
    LatentRow& row = rows.emplace_back();
    row.name = table.name("path");
    row.own = {whole("height", 1), whole("width", 1)};
    row.index = whole("index", 0);
    row.encoded = table.has("encoded_height")
                      ? Size{whole("encoded_height", 1), whole("encoded_width", 1)}
                      : row.own;
    if (table.has("file")) row.file = table.name("file");
  }
  return rows;
}

fs::path latent_table_path(const fs::path& latents) {
  std::error_code error;
  if (fs::is_directory(latents, error)) return latents / "latents.csv";
  return fs::path(latents).replace_extension(".csv");
}

}  // namespace convae
