#pragma once

#include "convae/inspection/inspector.h"

/// What a run keeps between two calls of `convae score`.
namespace convae {

/// What the model's run keeps; nullopt where there is none, where it is of other weights or another
/// grouping, or where good images are named. Throws OptionError for another size, and what
/// Inspector::load() throws.
std::optional<Inspector> saved_inspector(const Model& model, const CalibrateOptions& options,
                                         const Callbacks& callbacks);

/// That, or what calibrate_and_keep() gives.
Inspector inspector_for(const Model& model, const CalibrateOptions& options,
                        const Callbacks& callbacks);

/// Calibrates, and keeps the result where good images are the run's own; a run that cannot be
/// written is a warning.
Inspector calibrate_and_keep(const Model& model, const CalibrateOptions& options,
                             const Callbacks& callbacks);

}  // namespace convae
