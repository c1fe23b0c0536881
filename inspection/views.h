#pragma once

#include "convae/core/errors.h"
#include "convae/inference/folder.h"
#include "convae/inspection/scorer.h"

#include <cstdint>
#include <string>

namespace convae {

/// An image of a folder and what scores look at in it.
struct ViewedImage {
  SeenImage seen;
  std::int64_t index = 0;  ///< in its folder
  torch::Tensor pixels;    ///< (C, H, W) uint8, uint16 or float, at its own size
  torch::Tensor input;     ///< (1, C, h, w) float in [0,1]: what the network saw
};

/// What a pixel of an image takes while it is looked at and compared, as measured in colour with a
/// detector (196): maps of all levels, copies, and what goes through the network.
inline constexpr std::int64_t kViewBytesAPixel = 230;

/// Looks at an image through the model. input: (1, C, H, W) float in [0,1] on the model's device.
SeenImage look_at(const Model& model, const torch::Tensor& input);

/// (C, H, W) → (1, C, H, W), with strides that do not depend on where the image comes from:
/// convolutions choose by them how they add up, and scores show the last bits.
torch::Tensor alone(const torch::Tensor& image);

/// A map (H, W) float at the size wanted.
torch::Tensor resize_map(const torch::Tensor& map, Size size);

/// Looks at the only image of a batch. Throws std::runtime_error naming it where the network's
/// output is not finite.
ViewedImage view(const ModelFolder& folder, const MicroBatch& batch);

/// Throws std::runtime_error where memory cannot hold what an image of that size takes, or the
/// largest of a folder.
void require_memory_for_view(Size size);
/// The same for one of `own` size alone that is resized for that, with a map of its own size.
void require_memory_to_resize(Size own);
void require_memory_for_views(const ModelFolder& folder);

/// Puts the images of a folder, whose batches have one image each, through its model; `make` gets
/// each, and `use` what it makes of it: see ModelFolder::for_each(). `stage` is what
/// Callbacks::progress is told, `what` what Interrupted calls the images ("the good images").
/// Throws what view() and require_memory_for_views() throw.
template <typename Make, typename Use>
void for_each_viewed(ModelFolder& folder, const std::string& stage, const std::string& what,
                     const Callbacks& callbacks, const Make& make, const Use& use) {
  require_memory_for_views(folder);
  const auto make_one = [&](const MicroBatch& batch) {
    auto result = make(view(folder, batch));
    if (callbacks.stopped()) throw Interrupted("");  // also after the last one
    return result;
  };
  try {
    folder.for_each(stage, make_one, use);
  } catch (const Interrupted&) {
    throw Interrupted("stopped while looking at " + what);
  }
}

}  // namespace convae
