#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"
#include "convae/models/options.h"

#include <array>

namespace CONVAE_API convae {

/// File formats for other programs.
enum class ExportFormat { onnx, torchscript, safetensors };
constexpr auto names(ExportFormat) {
  return std::to_array<Name<ExportFormat>>({{ExportFormat::onnx, "onnx"},
                                            {ExportFormat::torchscript, "torchscript"},
                                            {ExportFormat::safetensors, "safetensors"}});
}
/// The part of the model in the file; `inspector`: the autoencoder and what was learnt of good
/// images.
enum class Part { autoencoder, encoder, decoder, inspector };
constexpr auto names(Part) {
  return std::to_array<Name<Part>>({{Part::autoencoder, "autoencoder"},
                                    {Part::encoder, "encoder"},
                                    {Part::decoder, "decoder"},
                                    {Part::inspector, "inspector"}});
}

struct ExportOptions {
  ExportFormat format = ExportFormat::onnx;
  Part part = Part::autoencoder;
  /// The one size of the images that an ONNX file takes; {0, 0}: every size.
  Size size{0, 0};
  /// Of an inspector: the share of good images that its threshold may call anomalous.
  double fpr = 0.01;

  /// Throws OptionError for a size in a format that takes every size anyway, a size other than the
  /// one of a dense latent, or one that cannot pass the levels; for an inspector as safetensors,
  /// for a part of a model without latents, and for a share that is none.
  void validate(const ModelOptions& model) const;

  /// The size of all images: that of a dense latent, or the one asked for; {0, 0}: every size.
  Size fixed_size(const ModelOptions& model) const;
};

}  // namespace convae
