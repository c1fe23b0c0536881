#pragma once

#include "convae/models/options.h"

#include <string>

namespace convae {

/// Sizes level by level, in the encoder's order, for images of `input`; one line of JSON. Each size
/// is [C,H,W], "without" is what the transposed convolution would give with output_padding 0:
///
///     {"input":[C,H,W],
///      "levels":[{"conv":{"in":…,"out":…},
///                 "convT":{"in":…,"output_padding":[h,w],"without":…,"out":…}}…],
///      "latent":[c,h,w] or [D],"output":[C,H,W]}
///
/// Throws GeometryError.
std::string plan_json(const ModelOptions& model, Size input);

}  // namespace convae
