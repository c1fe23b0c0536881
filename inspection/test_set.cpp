#include "convae/inspection/test_set.h"

#include "convae/core/files.h"
#include "convae/core/paths.h"
#include "convae/data/folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

namespace convae {
namespace fs = std::filesystem;
namespace {

bool has_masks(const fs::path& folder) { return subfolder(folder, FolderRole::masks).has_value(); }

/// Whether a folder named as a test set is one: good images lie in it, or beside it a training or
/// mask folder.
bool is_test_set(const fs::path& folder, const fs::path& beside) {
  const auto train = subfolder(beside, FolderRole::training);
  return subfolder(folder, FolderRole::good) || has_masks(beside) || has_masks(folder) ||
         (train && subfolder(beside / *train, FolderRole::good));
}

/// Files with images of masks directly in a folder, sorted by name.
std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entries(folder, error); !error && entries != end(entries);
       entries.increment(error)) {
    std::error_code failure;
    const fs::path& path = entries->path();
    const bool is_hidden = path.filename().string().starts_with('.');
    if (!is_hidden && entries->is_regular_file(failure) && looks_like_image(path)) {
      files.push_back(path);
    }
  }
  std::ranges::sort(files);
  return files;
}

torch::Tensor read_mask(const fs::path& path, const ImageInfo& image, std::int64_t max_pixels) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  const ImageInfo info = probe_image(bytes, max_pixels);
  torch::Tensor pixels = decode_image(bytes, /*channels=*/3, max_pixels, /*reduction=*/1,
                                      {ValueRange::Kind::automatic});  // labels may be any numbers
  const auto fits = [&] { return pixels.size(1) == image.height && pixels.size(2) == image.width; };
  if (!fits() && turns_sideways(image.orientation)) pixels = turned(pixels, image.orientation);
  if (!fits()) {
    throw MaskSizeError(fmt::format("its size is {}x{}, but its image's is {}x{}", pixels.size(1),
                                    pixels.size(2), image.height, image.width));
  }
  const torch::Tensor values = pixels.to(at::kFloat).amax(0);
  if (info.alpha && values.min().item<double>() > 0) {
    throw ImageError("its background is transparent; save it without alpha");
  }
  const bool is_lossy = info.format == ImageFormat::jpeg || info.format == ImageFormat::webp;
  constexpr double kLeastLight = 16;  // of a lossy mask: what is darker is black with noise
  return is_lossy ? values.gt(std::max(values.max().item<double>() / 2, kLeastLight))
                  : values.ne(0);
}

}  // namespace

InspectionFolder::InspectionFolder(const fs::path& root) : images(root) {
  // ".." of a link would be the folder the link lies in.
  std::error_code error;
  const fs::path real = fs::canonical(root, error);
  const fs::path parent = real.parent_path();
  fs::path beside = parent;
  const auto test = subfolder(root, FolderRole::test);
  const auto inner = subfolder(root, FolderRole::images);
  if (test && (is_test_set(root / *test, root) || has_kinds(root / *test))) {
    prefix = *test + "/";
  } else if (!has_kinds(root) && inner && has_kinds(root / *inner)) {
    prefix = *inner + "/";
  } else {
    labelled = has_kinds(root) ||
               (has_role(real.filename().string(), FolderRole::test) && is_test_set(root, parent));
  }
  if (!prefix.empty()) {
    images = root / prefix.substr(0, prefix.size() - 1);
    beside = root;
    labelled = true;
    const InspectionLayout layout = find_layout(root).value_or(InspectionLayout{});
    for (const std::string& folder : {layout.training, layout.validation}) {
      if (!folder.empty() && !folder.starts_with(prefix)) good_folders.push_back(folder);
    }
  }
  if (!labelled) return;
  for (const fs::path& folder : {beside, images}) {
    for (const std::string& name : subfolders(folder)) {
      if (has_role(name, FolderRole::masks)) mask_folders.push_back(folder / name);
    }
  }
}

std::string InspectionFolder::label(const std::string& name) const {
  if (!labelled) return "";
  const auto is_in = [&](const std::string& folder) { return name.starts_with(folder + "/"); };
  if (std::ranges::any_of(good_folders, is_in)) return kGoodLabel;
  if (!name.starts_with(prefix)) return "";
  const std::string inner = name.substr(prefix.size());
  const std::size_t slash = inner.find('/');
  if (slash == std::string::npos) return "";
  const std::string kind = inner.substr(0, slash);
  return has_role(kind, FolderRole::good) ? kGoodLabel : kind;
}

std::vector<fs::path> InspectionFolder::masks(const std::string& name) const {
  const std::string kind = label(name);
  if (kind.empty() || kind == kGoodLabel) return {};
  const fs::path inner = name.substr(prefix.size());
  const std::string stem(stem_of(inner.filename().string()));
  std::vector<fs::path> folders;
  for (const fs::path& folder : mask_folders) folders.push_back(folder / inner.parent_path());
  const fs::path above = images / inner.parent_path().parent_path();
  if (inner.parent_path().has_parent_path()) {
    for (const std::string& beside : subfolders(above)) {
      if (has_role(beside, FolderRole::masks)) folders.push_back(above / beside);
    }
  }
  std::vector<fs::path> named, plain;
  const auto add = [&](std::vector<fs::path>& masks, const auto& files) {
    const auto [begin, end] = files.equal_range(stem);
    for (auto file = begin; file != end; ++file) masks.push_back(file->second);
  };
  for (const fs::path& folder : folders) {
    add(named, mask_files(folder).named);
    add(plain, mask_files(folder).plain);
    std::ranges::copy(files_in(folder / stem), std::back_inserter(named));
  }
  return named.empty() ? plain : named;
}

const InspectionFolder::MaskFiles& InspectionFolder::mask_files(const fs::path& folder) const {
  const auto [place, is_new] = read_folders_.try_emplace(folder);
  if (!is_new) return place->second;
  for (const fs::path& file : files_in(folder)) {
    const std::string stem(stem_of(file.filename().string()));
    place->second.plain.emplace(stem, file);
    if (const auto masked = stem_of_masked(stem)) place->second.named.emplace(*masked, file);
  }
  return place->second;
}

torch::Tensor read_masks(const std::vector<fs::path>& masks, const ImageInfo& image,
                         std::int64_t max_pixels) {
  torch::Tensor all;
  for (const fs::path& path : masks) {
    const torch::Tensor mask = read_mask(path, image, max_pixels);
    all = all.defined() ? all.logical_or(mask) : mask;
  }
  return all;
}

}  // namespace convae
