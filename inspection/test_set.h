#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace convae {

/// Images to be inspected, and what is known of them.
///
/// Known are the kinds where a folder has the layout of the MVTec anomaly detection data (Bergmann
/// et al. 2021, https://doi.org/10.1007/s11263-020-01400-4):
///
///     test/good/…                         images without a defect
///     test/KIND/STEM.png                  images with a defect of that kind
///     ground_truth/KIND/STEM_mask.png     where it is: above half of white; STEM.png will do, too
///
/// or where it is such a `test` folder itself, with `good` and other folders in it and the masks in
/// ../ground_truth. Everything else is a plain folder, whose images nothing is known of.
struct InspectionFolder {
  explicit InspectionFolder(const std::filesystem::path& root);

  std::filesystem::path images;  ///< what to list: `root`/test in the layout, else `root`
  std::string prefix;  ///< before names in `images`, for names relative to `root`: "test/" or ""
  std::filesystem::path masks;
  bool labelled = false;

  /// "good" or the kind of defect of an image named relative to `root`; "" where that is not known:
  /// in a plain folder, and of images that lie in no kind's folder.
  std::string label(const std::string& name) const;

  /// The mask of such an image; nullopt if there is none.
  std::optional<std::filesystem::path> mask(const std::string& name) const;
};

/// The label of images without a defect.
inline constexpr const char* kGoodLabel = "good";

}  // namespace convae
