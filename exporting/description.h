#pragma once

#include "convae/exporting/options.h"
#include "convae/inference/model.h"

#include <torch/nn/module.h>

#include <map>
#include <string>

namespace convae {

/// What an exported file says about itself: `channels` ("3"), `range` ("[0,1]"), `model` (a JSON
/// object as in checkpoints), `version` (of convae), `part`, `input` ("any" or "HxW"),
/// `smallest-input`
/// ("HxW"), `epoch`, `step`.
std::map<std::string, std::string> describe_export(const Model& model,
                                                   const ExportOptions& options);

/// The part that is exported.
const torch::nn::Module& part_of(const Model& model, Part part);

}  // namespace convae
