#pragma once

#include "convae/exporting/export.h"

#include <torch/nn/module.h>

#include <map>
#include <string>

namespace convae {

/// What an exported file says about itself: `channels` ("3"), `range` ("[0,1]"), `value-range` (the
/// files' numbers that become 0 and 1: "full" or "0:4095"), `model` (a JSON
/// object as in checkpoints), `version` (of convae), `part`, `input` ("any" or "HxW"),
/// `smallest-input` ("HxW"), `epoch`, `step`; of an inspector also `threshold` and `fpr`.
using ExportDescription = std::map<std::string, std::string>;

/// `images` (N, C, H, W) → `reconstruction` or `latent`, for any N; a decoder takes `latent` and,
/// unless its size is fixed, `size` (H, W).
void write_onnx(const std::filesystem::path& path, const Model& model, const ExportOptions& options,
                const ExportDescription& description);

/// Methods: `forward`, and `encode` and `decode` of an autoencoder. Weights keep their names.
void write_torchscript(const std::filesystem::path& path, const Model& model, Part part,
                       const ExportDescription& description);

/// `image` (1, C, H, W) → `score` (1) and `map` (1, 1, H, W). `fixed`: the one size of images;
/// {0, 0}: every size.
void write_onnx(const std::filesystem::path& path, const Inspector& inspector, Size fixed,
                const ExportDescription& description);
void write_torchscript(const std::filesystem::path& path, const Inspector& inspector, Size fixed,
                       const ExportDescription& description);

/// The part that is exported.
const torch::nn::Module& part_of(const Model& model, Part part);

}  // namespace convae
