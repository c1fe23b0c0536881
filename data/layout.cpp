#include "convae/data/layout.h"

#include "convae/data/listing.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <regex>
#include <system_error>

namespace convae {
namespace fs = std::filesystem;
namespace {

const std::map<FolderRole, std::vector<std::string_view>> kRoleNames = {
    {FolderRole::good, {"good", "ok", "normal", "no_defect", "defect_free"}},
    {FolderRole::bad,
     {"bad", "ko", "ng", "nok", "not_ok", "defect", "defects", "defective", "abnormal", "anomaly",
      "anomalies"}},
    {FolderRole::training, {"train", "training"}},
    {FolderRole::validation, {"validation", "val", "valid"}},
    {FolderRole::test, {"test", "test_public", "testing"}},
    {FolderRole::images, {"images", "imgs"}},
    {FolderRole::masks,
     {"ground_truth", "groundtruth", "gt", "gtfine", "gtcoarse", "masks", "mask", "mask_images"}},
    {FolderRole::labels,
     {"label", "labels", "annotation", "annotations", "segmentation", "segmentations",
      "segmentationclass", "segmentationobject"}}};

constexpr const char* kPublicTest = "test_public";
constexpr const char* kParts = "good and bad parts";

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

/// Good images to train on, beside a test set or beside others.
std::optional<InspectionLayout> with_training_folder(const fs::path& root) {
  const auto train = subfolder(root, FolderRole::training);
  const auto good = train ? subfolder(root / *train, FolderRole::good) : std::nullopt;
  const auto test = subfolder(root, FolderRole::test);
  if (!good || (!test && !has_kinds(root / *train))) return std::nullopt;
  InspectionLayout layout{"MVTec AD", *train + "/" + *good, {}};
  if (const auto validation = subfolder(root, FolderRole::validation)) {
    const auto inner = subfolder(root / *validation, FolderRole::good);
    if (inner) layout.validation = *validation + "/" + *inner;
  }
  if (is_folder(root / kPublicTest)) {
    layout.name = "MVTec AD 2";
  } else if (test && is_folder(root / *test / "logical_anomalies")) {
    layout.name = "MVTec LOCO";
  } else if (*good == "ok") {
    layout.name = "BTAD";
  }
  return layout;
}

/// A test set with its kinds, of which images to train on may lie apart.
std::optional<InspectionLayout> with_test_folder(const fs::path& root) {
  const auto test = subfolder(root, FolderRole::test);
  if (!test || !has_kinds(root / *test)) return std::nullopt;
  const auto train = subfolder(root, FolderRole::training);
  const std::string good = *test + "/" + *subfolder(root / *test, FolderRole::good);
  return InspectionLayout{kParts, train.value_or(good), {}};
}

/// Results of this program, a part of some, or runs.
bool is_of_results(const fs::path& folder, const std::string& name) {
  return is_folder_of_results(folder / name) || is_folder_of_results(folder / name / "latest") ||
         (is_part_of_results(name) && is_folder_of_results(folder));
}

/// As kRoleNames writes it.
std::string plain(std::string_view folder_name) {
  std::string name(folder_name);
  for (char& c : name) {
    c = c == '-' || c == ' ' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return name;
}

}  // namespace

bool has_role(std::string_view folder_name, FolderRole role) {
  const std::vector<std::string_view>& names = kRoleNames.at(role);
  return std::ranges::find(names, plain(folder_name)) != names.end();
}

std::vector<std::string> subfolders(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entries(folder, error); !error && entries != end(entries);
       entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    std::error_code failure;
    if (!name.starts_with('.') && entries->is_directory(failure)) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

std::optional<std::string> subfolder(const fs::path& folder, FolderRole role) {
  for (const std::string& name : subfolders(folder)) {
    if (has_role(name, role)) return name;
  }
  return std::nullopt;
}

bool has_kinds(const fs::path& folder) {
  const auto good = subfolder(folder, FolderRole::good);
  if (!good) return false;
  const bool may_be_maps = plain(*good) == "normal";
  return std::ranges::any_of(subfolders(folder), [&](const std::string& name) {
    const bool is_kind = !has_role(name, FolderRole::good) && !has_role(name, FolderRole::masks) &&
                         !is_of_results(folder, name);
    return may_be_maps ? has_role(name, FolderRole::bad) : is_kind;
  });
}

std::optional<std::string> stem_of_masked(const std::string& stem) {
  static const std::regex ending("[_-](mask|gt|ground_?truth|label|seg)s?([_-]?[0-9]+)?$",
                                 std::regex::icase);
  constexpr std::size_t kLongest = 24;  // of an ending: all else of a name need not be searched
  const std::size_t begin = stem.size() - std::min(stem.size(), kLongest);
  const std::string tail = stem.substr(begin);
  std::smatch match;
  if (!std::regex_search(tail, match, ending)) return std::nullopt;
  const auto length = begin + static_cast<std::size_t>(match.position());
  return length > 0 ? std::optional(stem.substr(0, length)) : std::nullopt;
}

std::optional<InspectionLayout> find_layout(const fs::path& root) {
  if (auto layout = with_training_folder(root)) return layout;
  if (has_kinds(root)) return InspectionLayout{kParts, *subfolder(root, FolderRole::good), {}};
  if (auto layout = with_test_folder(root)) return layout;
  const auto images = subfolder(root, FolderRole::images);
  if (!images || !has_kinds(root / *images)) return std::nullopt;
  return InspectionLayout{kParts, *images + "/" + *subfolder(root / *images, FolderRole::good), {}};
}

}  // namespace convae
