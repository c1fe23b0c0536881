#pragma once

#include "convae/core/api.h"
#include "convae/exporting/options.h"
#include "convae/inference/model.h"
#include "convae/inspection/inspector.h"

#include <filesystem>

namespace CONVAE_API convae {

/// Writes a model for other programs, atomically. Input and output images are in the model's range,
/// [-1,1] for tanh and [0,1] otherwise. Inputs, outputs, and what the file says about itself:
/// docs/export.md. Part::inspector is the one of the model's run, see inspector_of_run(). Throws
/// OptionError where the options do not fit the model, std::runtime_error where the file cannot be
/// written.
void export_model(const std::filesystem::path& path, const Model& model,
                  const ExportOptions& options);

/// Writes Part::inspector, whatever options.part is: image (1, C, H, W) in [0,1] → score (1) and
/// map (1, 1, H, W), as Inspector::score() gives them. One that was calibrated at a size takes that
/// size alone. Throws as export_model() does.
void export_inspector(const std::filesystem::path& path, const Inspector& inspector,
                      ExportOptions options);

}  // namespace convae
