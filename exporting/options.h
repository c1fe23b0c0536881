#pragma once

#include "convae/core/names.h"
#include "convae/models/options.h"

#include <array>
#include <string>

namespace convae {

/// What a file for other programs is written as.
enum class ExportFormat { onnx, torchscript, safetensors };
constexpr auto names(ExportFormat) {
  return std::to_array<Name<ExportFormat>>({{ExportFormat::onnx, "onnx"},
                                            {ExportFormat::torchscript, "torchscript"},
                                            {ExportFormat::safetensors, "safetensors"}});
}
/// What of the model it holds.
enum class Part { autoencoder, encoder, decoder };
constexpr auto names(Part) {
  return std::to_array<Name<Part>>(
      {{Part::autoencoder, "autoencoder"}, {Part::encoder, "encoder"}, {Part::decoder, "decoder"}});
}

struct ExportOptions {
  ExportFormat format = ExportFormat::onnx;
  Part part = Part::autoencoder;
  /// The one size of the images that an ONNX file takes; {0, 0}: every size.
  Size size{0, 0};

  /// Throws OptionError where a file of `model` cannot be like that: a size for a format
  /// that takes every size anyway, another size than that of a dense latent, one that the levels
  /// cannot take.
  void validate(const ModelOptions& model) const;

  /// The size of all images: that of a dense latent, or the one asked for; {0, 0}: every size.
  Size fixed_size(const ModelOptions& model) const;
};

}  // namespace convae
