#pragma once

#include "convae/app/options/options.h"
#include "convae/inference/model.h"
#include "convae/training/checkpoint.h"

#include <functional>
#include <string>
#include <vector>

namespace convae::app {

/// Pictures that a decoder draws: PREFIX_00001.png and so on, and some of them in one.
struct PictureSeries {
  std::string prefix;
  std::int64_t count = 0;
  Size size;
  /// The latent of picture `i`, from 0: (1, …) on the model's device.
  std::function<torch::Tensor(std::int64_t i)> latent;

  std::string sheet;  ///< name of the one picture
  std::function<bool(std::int64_t i)> is_on_sheet;
  /// (3, h, w) uint8 of those that are on it.
  std::function<torch::Tensor(const std::vector<torch::Tensor>&)> arrange;
  std::string about_sheet;  ///< said of it, with its name
};

/// Draws them into --output, says so, and gives the exit code: an interrupt ends after a picture.
int draw(const PictureSeries& series, const Options& options, Model& model);

}  // namespace convae::app
