#pragma once

#include "convae/models/options.h"

#include <string>

namespace convae {

/// Sizes level by level with the output_padding each needs, as lines of text. Both functions
/// throw GeometryError.
///
///     level  convolution         settings  transposed convolution …      without output_padding
///     1      3x24x24 → 32x12x12  k3 s2 p1  32x12x12 → 3x24x24, output_padding 1,1  3x23x23
std::string level_table(const ModelOptions& model, Size input);

/// The same for programs, one line of JSON. Each size is [C,H,W], "without" is what the transposed
/// convolution would give with output_padding 0:
///
///     {"input":[C,H,W],
///      "levels":[{"conv":{"in":…,"out":…},
///                 "convT":{"in":…,"output_padding":[h,w],"without":…,"out":…}}…],
///      "latent":[c,h,w] or [D],"output":[C,H,W]}
///
/// "latent" is null unless model.has_latents(), levels with residual blocks have
/// "residual_blocks":N, and where there is a detector "detector":[[c,h,w]…], the shapes of its
/// levels.
std::string plan_json(const ModelOptions& model, Size input);

/// "detector  16x12x12 → 32x6x6 → 64x3x3 → 1x24x24"; "" without one.
std::string detector_line(const ModelOptions& model, Size input);

/// "3x24x24".
std::string shape_text(std::int64_t channels, Size size);

}  // namespace convae
