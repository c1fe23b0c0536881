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

/// Names the good images that the model's run was calibrated on, perhaps with other weights, if
/// they were not the run's own.
CalibrateOptions as_calibrated_before(const Model& model, const Callbacks& callbacks);

/// Calibrates, and keeps the result where good images are the run's own, or those it was calibrated
/// on before, and nothing is kept for the same weights; a run that cannot be written is a warning.
Inspector calibrate_and_keep(const Model& model, const CalibrateOptions& options,
                             const Callbacks& callbacks);

}  // namespace convae
