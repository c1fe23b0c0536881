#pragma once

#include "models/options.h"

#include <string>

namespace convae {

/// What a file for other programs is written as.
enum class ExportFormat { onnx, torchscript, safetensors };
/// What of the model it holds.
enum class Part { autoencoder, encoder, decoder };

const char* to_string(ExportFormat format);
const char* to_string(Part part);

struct ExportOptions {
  ExportFormat format = ExportFormat::onnx;
  Part part = Part::autoencoder;
  /// The one size of the images that an ONNX file takes; {0, 0}: every size.
  HW size{0, 0};

  /// Throws std::invalid_argument where a file of `model` cannot be like that: a size for a format
  /// that takes every size anyway, another size than that of a dense latent, one that the levels
  /// cannot take.
  void validate(const ModelOptions& model) const;

  /// The size of all images: that of a dense latent, or the one asked for; {0, 0}: every size.
  HW fixed_size(const ModelOptions& model) const;
};

}  // namespace convae
