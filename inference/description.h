#pragma once

#include "convae/core/api.h"
#include "convae/inference/model.h"

#include <string>

namespace CONVAE_API convae {

/// What a checkpoint holds, one line of JSON: "file", "format", "epoch", "step", "parameters",
/// "channels", "levels" and its other options, "best-loss" …; null for what it does not have.
std::string description_json(const Model& model);

}  // namespace convae
