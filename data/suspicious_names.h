#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/image_files.h"

/// Files that are used, but by their names may not be meant to be. Each warning names an --exclude.
namespace convae {

/// Warns of masks beside their images, and of images with the names of others.
void warn_of_masks(const ImageFiles& files, const Callbacks& callbacks);

/// Warns where a folder of training images has a test or validation set beside it, also deeper in
/// the tree, and all of them are trained on.
void warn_of_test_images(const ImageFiles& files, const Callbacks& callbacks);

}  // namespace convae
