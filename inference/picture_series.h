#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/core/tensor.h"
#include "convae/inference/model.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// What a job drew.
struct DrawnPictures {
  std::vector<std::string> images;  ///< names of PNG files in the output folder
  std::string sheet;                ///< name of the picture that shows them together …
  std::int64_t on_sheet = 0;        ///< … or so many of them
  Size size;                        ///< of each
};

/// Pictures that a decoder draws: PREFIX_00001.png and so on, and some of them in one.
struct PictureSeries {
  std::filesystem::path output;  ///< folder
  bool overwrite = false;
  std::int64_t workers = -1;
  std::string prefix;
  std::int64_t count = 0;
  Size size;
  /// The latent of picture `i`, from 0: (1, …).
  std::function<torch::Tensor(std::int64_t i)> latent;
  std::string sheet;  ///< name of the one picture
  std::function<bool(std::int64_t i)> is_on_sheet;
  /// (3, h, w) uint8 of those that are on it.
  std::function<torch::Tensor(const std::vector<torch::Tensor>&)> arrange;
};

/// Draws and writes them. Throws std::runtime_error where a file exists or cannot be written, and
/// Interrupted: then without the sheet.
DrawnPictures draw(const Model& model, const PictureSeries& series, const Callbacks& callbacks);

}  // namespace convae
