#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/dataset.h"
#include "convae/models/autoencoder.h"

#include <cstdint>

namespace convae {

/// Sets the linear path of a fresh network, LinearCode, to the principal components of the training
/// images or their blocks, or of some 100,000 spread over them. Fewer than latent numbers leave the
/// rest of the path zero. `seed`: of crops, where images are cropped. Throws std::runtime_error
/// where the components would be all that an image has, or more than fits memory. `net` may be on
/// any device.
void begin_with_components(Autoencoder net, ImageDataset& training, std::uint64_t seed,
                           std::int64_t workers, const Callbacks& callbacks);

}  // namespace convae
