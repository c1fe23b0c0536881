#pragma once

#include "convae/inspection/inspector.h"

#include <functional>

/// What a run keeps between two calls of `convae score`.
namespace convae {

/// What the model's run keeps; nullopt where there is nothing, or what Inspector::load() has no use
/// for. Throws what that throws.
std::optional<Inspector> kept_inspector(const Model& model);

/// What the model's run keeps, or else a calibration like the one before, with what `options` ask
/// for: another grouping, or other good images. Kept is that one where nothing else than usual was
/// asked for, no image was too large that usually is not, and nothing is kept for the same weights;
/// a run that cannot be written is a warning. Before the work `prepare` gets the model in the
/// precision and the size that images are looked at in. Throws OptionError for another size than
/// the kept one's, and what Inspector::load() and calibrate() throw.
Inspector inspector_for(Model model, CalibrateOptions options, const Callbacks& callbacks,
                        const std::function<void(const Model&, Size)>& prepare = {});

/// How the model's run was calibrated before, perhaps with other weights: size, grouping and, if
/// they were not the run's own and are still there, good images; `model` then computes in its
/// precision.
CalibrateOptions as_calibrated_before(Model& model, const Callbacks& callbacks);

}  // namespace convae
