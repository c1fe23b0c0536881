#pragma once

#include "convae/core/api.h"
#include "convae/exporting/options.h"
#include "convae/inference/model.h"

#include <filesystem>

namespace CONVAE_API convae {

/// Writes a model for other programs, atomically. Input and output images are in the model's range,
/// [-1,1] for tanh and [0,1] otherwise. Inputs, outputs, and what the file says about itself:
/// docs/export.md. Throws OptionError where the options do not fit the model, std::runtime_error
/// where the file cannot be written.
void export_model(const std::filesystem::path& path, const Model& model,
                  const ExportOptions& options);

}  // namespace convae
