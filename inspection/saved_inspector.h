#pragma once

#include "convae/inspection/inspector.h"

/// What a run keeps between two calls of `convae score`.
namespace convae {

/// What the model's run keeps; nullopt where there is nothing, or what Inspector::load() has no use
/// for. Throws what that throws.
std::optional<Inspector> kept_inspector(const Model& model);

/// What the model's run keeps; nullopt where there is none, where it is of other weights or another
/// grouping, or where good images are named. `model` then computes in its precision; where only the
/// grouping is another, `options` name its size and good images, for a calibration like it. Throws
/// OptionError for another size, and what Inspector::load() throws.
std::optional<Inspector> saved_inspector(Model& model, CalibrateOptions& options,
                                         const Callbacks& callbacks);

/// That, or what calibrate_and_keep() gives.
Inspector inspector_for(Model model, CalibrateOptions options, const Callbacks& callbacks);

/// How the model's run was calibrated before, perhaps with other weights: size, grouping and, if
/// they were not the run's own, good images; `model` then computes in its precision.
CalibrateOptions as_calibrated_before(Model& model, const Callbacks& callbacks);

/// Calibrates, and keeps the result if it may, where size and grouping are the usual, no image was
/// too large that usually is not, and nothing is kept for the same weights; a run that cannot be
/// written is a warning.
Inspector calibrate_and_keep(const Model& model, const CalibrateOptions& options, bool may_keep,
                             const Callbacks& callbacks);

}  // namespace convae
