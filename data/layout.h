#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Sets of images for inspection keep good images, images with defects and masks apart by the
/// names of folders.
namespace convae {

/// The label of images without a defect.
inline constexpr const char* kGoodLabel = "good";

/// What a folder's name says about the images in it.
enum class FolderRole {
  good,        ///< without a defect: good, ok, normal …
  bad,         ///< with one: bad, ko, ng, defect …
  training,    ///< train …
  validation,  ///< validation, val …
  test,        ///< test, test_public …
  images,      ///< beside masks: images …
  masks,       ///< not images, but where their defects are: ground_truth, masks …
  labels       ///< likewise, or images of labels: labels, annotations …
};
/// Whether the name, in any case and with '_', '-' or blanks, is one of that role.
bool has_role(std::string_view folder_name, FolderRole role);

/// The names of the folders directly in `folder`, sorted; none where it cannot be read.
std::vector<std::string> subfolders(const std::filesystem::path& folder);
/// The first of them with that role.
std::optional<std::string> subfolder(const std::filesystem::path& folder, FolderRole role);

/// Whether good images and those with defects lie in folders of `folder`: one for good ones, such
/// as `good` or `OK`, and others that hold no results or runs of convae. Beside `normal` there must
/// be one such as `anomaly`, since normal maps have that name, too.
bool has_kinds(const std::filesystem::path& folder);

/// The stem of the image that a file of this stem is a mask of, by its ending: "12_mask", "12_GT",
/// "12-label", "12_mask_3"; nullopt for others.
std::optional<std::string> stem_of_masked(const std::string& stem);

/// Folders of an inspection set, relative to its own.
struct InspectionLayout {
  std::string name;        ///< "MVTec AD 2"
  std::string training;    ///< good images, such as train/good
  std::string validation;  ///< more of them, such as validation/good; empty: there are none
};

/// The layout of a folder to train on: that of MVTec AD (train/good beside test; VisA's one-class
/// form is the same), MVTec AD 2 (test_public, validation/good), MVTec LOCO, BTAD (train/ok), or
/// folders of good and bad parts (OK, NG), also in `test` alone or beside images in `train`.
/// nullopt: a plain folder.
std::optional<InspectionLayout> find_layout(const std::filesystem::path& root);

}  // namespace convae
