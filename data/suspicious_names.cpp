#include "convae/data/suspicious_names.h"

#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/globs.h"
#include "convae/data/layout.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// The folder that a name is in, with the last '/'.
std::string_view folder_of(std::string_view name) { return name.substr(0, name.rfind('/') + 1); }

/// All of those that files are in.
std::set<std::string_view> folders_of(const ImageFiles& files) {
  std::set<std::string_view> folders;
  std::string_view before;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string_view folder = folder_of(files.name(i));
    if (folder != std::exchange(before, folder)) folders.insert(folder);
  }
  return folders;
}

/// The innermost folder such as `labels` that a folder is or lies in, with the last '/'; "" where
/// there is none.
std::string_view labels_above(std::string_view folder) {
  std::string_view found;
  for (std::size_t begin = 0, end = 0; begin < folder.size(); begin = end + 1) {
    end = folder.find('/', begin);
    const std::string_view own_name = folder.substr(begin, end - begin);
    if (has_role(own_name, FolderRole::labels)) found = folder.substr(0, end + 1);
  }
  return found;
}

/// Files by the folder they are in, and folders by the files in them, without endings.
class Stems {
public:
  explicit Stems(const ImageFiles& files) {
    for (std::size_t i = 0; i < files.size(); ++i) {
      const std::string_view folder = folder_of(files.name(i));
      const std::string_view stem = stem_of(files.name(i)).substr(folder.size());
      in_[folder].insert(stem);
      folders_.emplace(stem, folder);
    }
  }

  std::size_t count(std::string_view folder) const { return in_.at(folder).size(); }

  /// Whether every file has its image in one folder outside `above`, where masks are.
  bool is_of_masks(std::string_view folder, std::string_view above) const {
    const auto& masks = in_.at(folder);
    for (const std::string& image : images_of(*masks.begin())) {
      for (auto [it, end] = folders_.equal_range(image); it != end; ++it) {
        const bool is_outside = !it->second.starts_with(above);
        if (is_outside && has_images_of(masks, in_.at(it->second))) return true;
      }
    }
    return false;
  }

private:
  /// What the image of a mask may be called: the same, or without the ending of a mask.
  static std::vector<std::string> images_of(std::string_view mask) {
    std::vector<std::string> images{std::string(mask)};
    if (const auto image = stem_of_masked(images[0])) images.push_back(*image);
    return images;
  }

  using Names = std::multiset<std::string_view>;

  static bool has_images_of(const Names& masks, const Names& others) {
    const auto has = [&](const std::string& stem) { return others.contains(stem); };
    return std::ranges::all_of(
        masks, [&](std::string_view mask) { return std::ranges::any_of(images_of(mask), has); });
  }

  std::map<std::string_view, Names> in_;
  std::multimap<std::string_view, std::string_view> folders_;
};

/// Warns of a folder such as `labels` whose files have the names of images in others.
void warn_of_labels(const ImageFiles& files, const Callbacks& callbacks) {
  std::map<std::string_view, std::vector<std::string_view>> labels;  // folders, by labels_above()
  for (const std::string_view folder : folders_of(files)) {
    if (!labels_above(folder).empty()) labels[labels_above(folder)].push_back(folder);
  }
  if (labels.empty()) return;
  const Stems stems(files);
  for (const auto& [above, folders] : labels) {
    std::size_t all = 0, count = 0;
    std::vector<std::string> flags;
    for (const std::string_view folder : folders) {
      all += stems.count(folder);
      if (!stems.is_of_masks(folder, above)) continue;
      count += stems.count(folder);
      flags.push_back("--exclude " + shell_word(glob_of(folder) + "*"));
    }
    if (count == 0) continue;
    // A few without an image are masks too; most without are pictures that happen to lie there.
    if (2 * count > all) flags = {"--exclude " + shell_word(glob_of(above) + "**")};
    callbacks.warn(
        fmt::format("{} images in {} have the names of others and seem to be their masks; leave "
                    "them out with {}",
                    count, in_quotes(above.substr(0, above.size() - 1)), fmt::join(flags, " ")));
  }
}

/// Warns of masks beside their images, by their names.
class MaskNames {
public:
  explicit MaskNames(const ImageFiles& files) : files_(files) {
    for (std::size_t i = 0; i < files.size(); ++i)
      stems_.push_back(hash_of(stem_of(files.name(i))));
    std::ranges::sort(stems_);
  }

  void warn_of_pairs(const Callbacks& callbacks) const {
    std::int64_t pairs = 0;
    std::string image, mask;  // of the first pair
    std::set<std::string> flags;
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const std::string stem(stem_of(files_.name(i)));
      const auto masked = stem_of_masked(stem);
      if (!masked || !std::ranges::binary_search(stems_, hash_of(*masked))) continue;
      std::string ending = stem.substr(masked->size());
      const std::size_t number_at = ending.find_last_not_of("0123456789") + 1;
      if (number_at < ending.size()) ending = ending.substr(0, number_at) + "[0-9]*";
      flags.insert(fmt::format("--exclude '*{}.*'", ending));
      if (pairs++ > 0) continue;
      image = name_with(*masked);
      mask = files_.name(i);
    }
    if (pairs == 0) return;
    callbacks.warn(fmt::format(
        "{} images seem to be masks of others, such as {} of {}; leave them out with {}", pairs,
        in_quotes(mask), in_quotes(image), fmt::join(flags, " ")));
  }

  void warn_of_twins(const Callbacks& callbacks) const {
    std::size_t twins = 0;
    for (std::size_t i = 1; i < stems_.size(); ++i) twins += stems_[i] == stems_[i - 1] ? 1 : 0;
    if (twins == 0 || 2 * twins < stems_.size() - twins) return;
    const auto is_twin = [&](std::size_t i) {
      const std::uint64_t stem = hash_of(stem_of(files_.name(i)));
      const auto [first, end] = std::equal_range(stems_.begin(), stems_.end(), stem);
      return end - first > 1;
    };
    std::size_t i = 0;
    while (!is_twin(i)) ++i;
    const std::string first(files_.name(i));
    do ++i;
    while (stem_of(files_.name(i)) != stem_of(first));
    const std::string second(files_.name(i));
    callbacks.warn(fmt::format(
        "{} images have the name of another but for the ending, such as {} and {}; if "
        "they are masks, leave them out with --exclude '*{}'",
        twins, in_quotes(first), in_quotes(second), fs::path(second).extension().string()));
  }

private:
  static std::uint64_t hash_of(std::string_view text) {
    return XXH3_64bits(text.data(), text.size());
  }

  std::string name_with(const std::string& stem) const {
    std::size_t i = 0;
    while (i + 1 < files_.size() && stem_of(files_.name(i)) != stem) ++i;
    return std::string(files_.name(i));
  }

  const ImageFiles& files_;
  std::vector<std::uint64_t> stems_;  // as numbers, sorted: there may be millions
};

}  // namespace

void warn_of_masks(const ImageFiles& files, const Callbacks& callbacks) {
  const MaskNames masks(files);
  masks.warn_of_pairs(callbacks);
  masks.warn_of_twins(callbacks);
  warn_of_labels(files, callbacks);
}

void warn_of_test_images(const ImageFiles& files, const Callbacks& callbacks) {
  std::map<std::string, std::set<std::string>> training, others;  // folders by the one they are in
  for (const std::string_view name : folders_of(files)) {
    std::string parent;
    for (const fs::path& part : fs::path(name)) {
      const std::string& folder = part.native();
      if (has_role(folder, FolderRole::training)) training[parent].insert(folder);
      if (has_role(folder, FolderRole::test) || has_role(folder, FolderRole::validation)) {
        others[parent].insert(folder);
      }
      parent += folder + "/";
    }
  }
  std::set<std::string> flags;
  std::string first;
  for (const auto& [parent, folders] : others) {
    if (!training.contains(parent)) continue;
    for (const std::string& folder : folders) {
      if (flags.empty()) first = parent + folder;
      flags.insert(fmt::format("--exclude '{}{}/**'", parent.empty() ? "" : "**/", folder));
    }
  }
  if (flags.empty()) return;
  callbacks.warn(fmt::format(
      "training on {} too, which seems to hold other images than those to train on; leave them out "
      "with {}",
      in_quotes(first), fmt::join(flags, " ")));
}

}  // namespace convae
