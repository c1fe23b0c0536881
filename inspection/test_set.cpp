#include "convae/inspection/test_set.h"

#include <algorithm>
#include <system_error>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

/// Whether `good` is in the folder, and another folder beside it.
bool has_kinds(const fs::path& folder) {
  if (!is_folder(folder / kGoodLabel)) return false;
  std::error_code error;
  const fs::directory_iterator entries(folder, error);
  return !error && std::any_of(begin(entries), end(entries), [](const fs::directory_entry& entry) {
    return is_folder(entry.path()) && entry.path().filename() != kGoodLabel;
  });
}

}  // namespace

InspectionFolder::InspectionFolder(fs::path root) : root_(std::move(root)), images_(root_) {
  const bool beside_training = is_folder(root_ / "test") && is_folder(root_ / "train" / kGoodLabel);
  if (beside_training || has_kinds(root_ / "test")) {
    images_ = root_ / "test";
    prefix_ = "test/";
    masks_ = root_ / "ground_truth";
    labelled_ = true;
  } else if (has_kinds(root_)) {
    // ".." of a link would be the folder the link lies in.
    std::error_code error;
    masks_ = fs::canonical(root_, error).parent_path() / "ground_truth";
    labelled_ = true;
  }
}

std::string InspectionFolder::label(const std::string& name) const {
  if (!labelled_) return "";
  const std::string inner = name.substr(prefix_.size());
  const std::size_t slash = inner.find('/');
  return slash == std::string::npos ? "" : inner.substr(0, slash);
}

std::optional<fs::path> InspectionFolder::mask(const std::string& name) const {
  const std::string kind = label(name);
  if (kind.empty() || kind == kGoodLabel) return std::nullopt;
  const fs::path image = name.substr(prefix_.size());
  std::error_code error;
  for (const char* ending : {"_mask.png", ".png"}) {
    const fs::path path = masks_ / image.parent_path() / (image.stem().string() + ending);
    if (fs::is_regular_file(path, error)) return path;
  }
  return std::nullopt;
}

}  // namespace convae
