#pragma once

#include "convae/core/api.h"
#include "convae/core/size.h"

#include <filesystem>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// A row of latents.csv: which image a latent came from. `encoded` is the size the network saw,
/// another than `own` where images were resized.
struct LatentRow {
  std::string name;
  Size own;
  std::int64_t index = 0;  ///< position in the array (or, in a folder of files, in the list)
  Size encoded;
  std::string file;  ///< its .npy, where each image has one of its own
};

/// path,height,width,index,encoded_height,encoded_width,file
std::string write_latent_rows(const std::vector<LatentRow>& rows);

/// Reads it back; encoded_height, encoded_width and file may be missing.
/// Throws std::runtime_error naming the file, the line and what is wrong.
std::vector<LatentRow> read_latent_rows(const std::filesystem::path& path);

/// "x.npy" → "x.csv"; a folder → "folder/latents.csv".
std::filesystem::path latent_table_path(const std::filesystem::path& latents);

}  // namespace convae
