#pragma once

#include "convae/data/dataset.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace convae {

/// The images of a run, in the order of their data sets: what the order of an epoch depends on.
struct ImageList {
  std::vector<std::string> training, validation;

  ImageList() = default;
  /// validation: may be null.
  ImageList(const ImageDataset& training_images, const ImageDataset* validation_images);

  /// See image_digest().
  std::string digest() const;
};

/// Calls `write` with the content of images.csv, path,set, row by row.
void write_image_list(const ImageDataset& training, const ImageDataset* validation,
                      const std::function<void(std::string_view)>& write);

/// 16 digits that differ where the names of a run's images or their order do (XXH3).
std::string image_digest(const ImageDataset& training, const ImageDataset* validation);

/// Throws std::runtime_error where another rank has another digest: ranks take their images by
/// number, and wait for each other.
void require_same_images_on_ranks(const std::string& digest);

/// "2 added ('a.png', 'b.png'), 1 removed ('c.png'), 4 moved between training and validation
/// ('d.png', …)"; empty where both hold the same.
std::string changes_between(const ImageList& before, const ImageList& now);

}  // namespace convae
