#pragma once

#include "convae/core/tensor.h"
#include "convae/data/dataset.h"
#include "convae/data/layout.h"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace convae {

/// Images to be inspected, and what is known of them.
///
/// Known are the kinds of defects where folders have the names of public inspection sets (see
/// FolderRole: `ok` is `good`, too), such as MVTec AD (Bergmann et al. 2021,
/// https://doi.org/10.1007/s11263-020-01400-4):
///
///     test/good/…                      images without a defect
///     test/KIND/STEM.png               images with a defect of that kind
///     ground_truth/KIND/STEM_mask.png  where it is: what is not zero
///
/// The folder may also be such a `test` folder itself, or have KINDs beside `good`. Everything else
/// is a plain folder, whose images nothing is known of.
class InspectionFolder {
public:
  explicit InspectionFolder(const std::filesystem::path& root);

  std::filesystem::path images;  ///< what to list: `root`/test in the layout, else `root`
  std::string prefix;  ///< before names in `images`, for names relative to `root`: "test/" or ""
  /// Folders with more good images, relative to `root`: those of training, beside `images`.
  std::vector<std::string> good_folders;
  std::vector<std::filesystem::path> mask_folders;  ///< beside `images`, and in it
  bool labelled = false;

  /// "good" or the kind of defect of an image named relative to `root`; "" where that is not known:
  /// in a plain folder, and of images that lie in no kind's folder.
  std::string label(const std::string& name) const;

  /// The masks of such an image: in its folder below one of mask_folders or in such a folder beside
  /// its own, files named STEM, STEM_mask and the like (see stem_of_masked()), or all in a folder
  /// STEM. Empty if there are none.
  std::vector<std::filesystem::path> masks(const std::string& name) const;

private:
  /// Mask files of a folder by the stem of their image: its own one, or one that an ending names.
  struct MaskFiles {
    std::multimap<std::string, std::filesystem::path> named, plain;
  };
  const MaskFiles& mask_files(const std::filesystem::path& folder) const;
  mutable std::map<std::filesystem::path, MaskFiles> read_folders_;
};

/// A mask that does not fit its image; what() has both sizes.
class MaskSizeError : public ImageError {
public:
  using ImageError::ImageError;
};

/// The union of the masks of an image, (H, W) bool: what is not zero, or in JPEG and WebP, whose
/// losses are near zero, above half of the highest. A mask that fits the image as it is stored is
/// turned with it, after EXIF. Throws MaskSizeError, ImageError, and std::runtime_error where a
/// file cannot be read.
torch::Tensor read_masks(const std::vector<std::filesystem::path>& masks, const ImageInfo& image,
                         std::int64_t max_pixels);

}  // namespace convae
