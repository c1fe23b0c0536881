#pragma once

#include "convae/data/dataset.h"

#include <string>
#include <vector>

namespace convae {

/// The images of a run, in the order of their data sets: what the order of an epoch depends on.
/// Names are as printable() shows them.
struct ImageList {
  std::vector<std::string> training, validation;

  ImageList() = default;
  /// validation: may be null.
  ImageList(const ImageDataset& training_images, const ImageDataset* validation_images);

  /// The content of images.csv: path,set.
  std::string to_csv() const;

  /// 16 digits that differ where the names or their order do (XXH3).
  std::string digest() const;
};

/// "2 added ('a.png', 'b.png'), 1 removed ('c.png'), 4 moved between training and validation
/// ('d.png', …)"; empty where both hold the same.
std::string changes_between(const ImageList& before, const ImageList& now);

}  // namespace convae
