#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

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
class InspectionFolder {
public:
  explicit InspectionFolder(std::filesystem::path root);

  /// What to list: `root`/test in the layout, else `root`.
  const std::filesystem::path& images() const { return images_; }

  /// Before names relative to images(), so that they are relative to `root`: "test/" or "".
  const std::string& prefix() const { return prefix_; }

  bool labelled() const { return labelled_; }

  /// "good" or the kind of defect of an image named relative to `root`; "" where that is not known:
  /// in a plain folder, and of images that lie in no kind's folder.
  std::string label(const std::string& name) const;

  /// The mask of such an image; nullopt if there is none.
  std::optional<std::filesystem::path> mask(const std::string& name) const;

private:
  std::filesystem::path root_, images_, masks_;
  std::string prefix_;
  bool labelled_ = false;
};

/// The label of images without a defect.
inline constexpr const char* kGoodLabel = "good";

}  // namespace convae
