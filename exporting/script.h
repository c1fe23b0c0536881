#pragma once

#include "convae/exporting/formats.h"

#include <torch/script.h>

#include <memory>

namespace convae {

/// A part of the model with its weights, as a class of `types`.
torch::jit::Module scripted_part(const Model& model, Part part,
                                 const std::shared_ptr<torch::jit::CompilationUnit>& types);

void write_script(const std::filesystem::path& path, const torch::jit::Module& script,
                  const ExportDescription& description);

}  // namespace convae
