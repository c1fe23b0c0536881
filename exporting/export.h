#pragma once

#include "convae/core/api.h"
#include "convae/exporting/options.h"
#include "convae/inference/model.h"

#include <filesystem>

namespace CONVAE_API convae {

/// Writes a model for other programs, atomically. Input and output images are in the model's range,
/// [-1,1] for tanh and [0,1] otherwise. What the file says about itself: docs/export.md. Throws
/// OptionError where the options do not fit the model, std::runtime_error where the file cannot be
/// written.
void export_model(const std::filesystem::path& path, const Model& model,
                  const ExportOptions& options);

/// ONNX, for ONNX Runtime, OpenVINO and others: `images` (N, C, H, W) → `reconstruction` or
/// `latent`, for any N; a decoder takes `latent` and, unless its size is fixed, `size` (H, W).
void export_onnx(const std::filesystem::path& path, const Model& model,
                 const ExportOptions& options);

/// TorchScript, for torch::jit::load and torch.jit.load. Methods: `forward`, and `encode` and
/// `decode` of an autoencoder. Weights keep their names.
void export_torchscript(const std::filesystem::path& path, const Model& model,
                        const ExportOptions& options);

/// Weights and buffers alone, under their names in the exported part.
void export_safetensors(const std::filesystem::path& path, const Model& model,
                        const ExportOptions& options);

}  // namespace convae
