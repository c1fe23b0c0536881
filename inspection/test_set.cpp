#include "convae/inspection/test_set.h"

#include <algorithm>
#include <system_error>

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

InspectionFolder::InspectionFolder(const fs::path& root) : images(root) {
  const bool beside_training = is_folder(root / "test") && is_folder(root / "train" / kGoodLabel);
  if (beside_training || has_kinds(root / "test")) {
    images = root / "test";
    prefix = "test/";
    masks = root / "ground_truth";
    labelled = true;
  } else if (has_kinds(root)) {
    // ".." of a link would be the folder the link lies in.
    std::error_code error;
    masks = fs::canonical(root, error).parent_path() / "ground_truth";
    labelled = true;
  }
}

std::string InspectionFolder::label(const std::string& name) const {
  if (!labelled) return "";
  const std::string inner = name.substr(prefix.size());
  const std::size_t slash = inner.find('/');
  return slash == std::string::npos ? "" : inner.substr(0, slash);
}

std::optional<fs::path> InspectionFolder::mask(const std::string& name) const {
  const std::string kind = label(name);
  if (kind.empty() || kind == kGoodLabel) return std::nullopt;
  const fs::path image = name.substr(prefix.size());
  std::error_code error;
  for (const char* ending : {"_mask.png", ".png"}) {
    const fs::path path = masks / image.parent_path() / (image.stem().string() + ending);
    if (fs::is_regular_file(path, error)) return path;
  }
  return std::nullopt;
}

}  // namespace convae
