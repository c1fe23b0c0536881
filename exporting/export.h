#pragma once

#include "convae/exporting/options.h"
#include "convae/inference/model.h"
#include "convae/training/checkpoint.h"

#include <filesystem>

namespace convae {

/// Writes a model for other programs, atomically. Images, on the way in and out, are in the model's
/// own range, [-1,1] where its output is tanh and [0,1] otherwise. What the file says of itself is
/// in docs/export.md. Throws std::invalid_argument where the options do not fit the model,
/// std::runtime_error where the file cannot be written.
void export_model(const std::filesystem::path& path, const Model& model,
                  const ExportOptions& options);

/// ONNX, for ONNX Runtime, OpenVINO and others: `images` (N, C, H, W) → `reconstruction`, or
/// `latent`; a decoder takes `latent` and, where it gives every size, `size` (H, W). The number of
/// images is free.
void export_onnx(const std::filesystem::path& path, const Model& model,
                 const ExportOptions& options);

/// TorchScript, for torch::jit::load and torch.jit.load. Methods: `forward`, and of an autoencoder
/// also `encode` and `decode`. Weights keep their names.
void export_torchscript(const std::filesystem::path& path, const Model& model,
                        const ExportOptions& options);

/// Weights and buffers alone, under the names they have in the part that is exported.
void export_safetensors(const std::filesystem::path& path, const Model& model,
                        const ExportOptions& options);

}  // namespace convae
