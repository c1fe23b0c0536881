#include "convae/data/split.h"

#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/grouping.h"
#include "convae/data/layout.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// Images in formats that are not read, and what converts them.
constexpr std::pair<std::string_view, const char*> kConverters[] = {
    {".heic", "heif-convert"}, {".heif", "heif-convert"},  {".avif", "avifdec"},
    {".jxl", "djxl"},          {".jp2", "opj_decompress"}, {".dng", "darktable-cli"},
    {".cr2", "darktable-cli"}, {".cr3", "darktable-cli"},  {".nef", "darktable-cli"},
    {".arw", "darktable-cli"}, {".orf", "darktable-cli"},  {".raf", "darktable-cli"},
    {".rw2", "darktable-cli"}, {".pef", "darktable-cli"},  {".srw", "darktable-cli"},
    {".raw", "darktable-cli"}};

/// What was left out of a listing on purpose, and what it could not use.
void tell_of(const ImageFolder& listed, const Callbacks& callbacks) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const SkippedFile& folder : listed.left_out) by_reason[folder.reason].push_back(folder.name);
  for (const auto& [reason, names] : by_reason) {
    callbacks.say(fmt::format("left out as {}: {}", reason, some_in_quotes(names)));
  }
  const std::string passed_over = passed_over_text(listed);
  if (!passed_over.empty()) callbacks.say("passed over: " + passed_over);
  for (const auto& [ending, program] : kConverters) {
    const auto found = listed.passed_over.find(std::string(ending));
    if (found == listed.passed_over.end()) continue;
    callbacks.warn(
        fmt::format("{} {} files are images that convae does not read; convert them to "
                    "JPEG or PNG, such as with {}",
                    found->second, ending, program));
  }
}

/// Warns of a folder such as `labels` whose files have the names of images in another.
void warn_of_labels(const std::vector<ImageEntry>& entries, const Callbacks& callbacks) {
  std::map<std::string, std::set<std::string>> stems;  // of files, by the folder they are in
  for (const ImageEntry& entry : entries) {
    const fs::path path = entry.file.name;
    stems[path.parent_path().string()].insert(path.stem().string());
  }
  for (const auto& [folder, own] : stems) {
    const std::string name = fs::path(folder).filename().string();
    if (!has_role(name, FolderRole::labels)) continue;
    const bool is_double = std::ranges::any_of(stems, [&](const auto& other) {
      return other.first != folder && std::ranges::includes(other.second, own);
    });
    if (!is_double) continue;
    callbacks.warn(
        fmt::format("{} images in {} have the names of others and seem to be their "
                    "masks; leave them out with --exclude '{}/**'",
                    own.size(), in_quotes(folder), folder));
  }
}

/// Warns of masks beside their images, by their names.
void warn_of_masks(const std::vector<ImageEntry>& entries, const Callbacks& callbacks) {
  std::map<std::string, std::string> by_stem;  // without ending → name
  std::string image, mask;                     // of the first pair
  std::int64_t pairs = 0, twins = 0;
  std::pair<const ImageEntry*, std::string> twin;
  const auto stem_of = [](const std::string& name) {
    fs::path path = name;
    const std::string ending = path.extension().string();
    const bool is_number = ending.find_first_not_of(".0123456789") == std::string::npos;
    return is_number ? name : path.replace_extension().string();
  };
  for (const ImageEntry& entry : entries) {
    const auto [place, is_new] = by_stem.emplace(stem_of(entry.file.name), entry.file.name);
    if (!is_new && twins++ == 0) twin = {&entry, place->second};
  }
  for (const auto& [stem, name] : by_stem) {
    const auto masked = stem_of_masked(stem);
    const auto found = masked ? by_stem.find(*masked) : by_stem.end();
    if (found == by_stem.end() || pairs++ > 0) continue;
    image = found->second;
    mask = name;
  }
  if (pairs > 0) {
    const std::string ending = stem_of(mask).substr(stem_of(image).size());
    callbacks.warn(
        fmt::format("{} images seem to be masks of others, such as {} of {}; leave them out with "
                    "--exclude '*{}.*'",
                    pairs, in_quotes(mask), in_quotes(image), ending));
  }
  if (2 * twins >= std::ssize(by_stem) && twins > 0) {
    const std::string second = twin.first->file.name;
    callbacks.warn(fmt::format(
        "{} images have the name of another but for the ending, such as {} and {}; if "
        "they are masks, leave them out with --exclude '*{}'",
        twins, in_quotes(twin.second), in_quotes(second), fs::path(second).extension().string()));
  }
}

/// Warns where a folder of training images has a test or validation set beside it, also deeper in
/// the tree, and all of them are trained on.
void warn_of_test_images(const std::vector<ImageEntry>& entries, const Callbacks& callbacks) {
  std::map<std::string, std::set<std::string>> training, others;  // folders by the one they are in
  for (const ImageEntry& entry : entries) {
    const std::string& name = entry.file.name;
    std::size_t begin = 0;
    for (std::size_t end = name.find('/'); end != std::string::npos; end = name.find('/', begin)) {
      const std::string folder = name.substr(begin, end - begin);
      const std::string parent = name.substr(0, begin);
      if (has_role(folder, FolderRole::training)) training[parent].insert(folder);
      if (has_role(folder, FolderRole::test) || has_role(folder, FolderRole::validation)) {
        others[parent].insert(folder);
      }
      begin = end + 1;
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

/// Of the files listed, those that `images` names; all where it is empty.
void keep_named(ImageFolder& listed, const std::vector<std::string>& images) {
  if (images.empty()) return;
  const std::set<std::string> names(images.begin(), images.end());
  const auto is_other = [&](const auto& file) { return !names.contains(printable(file.name)); };
  std::erase_if(listed.files, is_other);
  std::erase_if(listed.skipped, is_other);
}

std::optional<InspectionLayout> layout_of(const DataOptions& options) {
  if (!options.images.empty()) return std::nullopt;
  const bool is_chosen = std::ranges::any_of(options.include, [](const std::string& glob) {
    return glob == "**" || glob.find('/') != std::string::npos;
  });
  return is_chosen ? std::nullopt : find_layout(options.data);
}

void tell_of(const InspectionLayout& layout, const DataOptions& options,
             const Callbacks& callbacks) {
  std::vector<std::string> rest;
  for (const std::string& name : subfolders(options.data)) {
    const auto is_in = [&](const std::string& path) { return path.starts_with(name + "/"); };
    if (layout.training != name && !is_in(layout.training) &&
        !(is_in(layout.validation) && options.val.empty())) {
      rest.push_back(name);
    }
  }
  const bool validates = !layout.validation.empty() && options.val.empty();
  callbacks.say(fmt::format("{} has the {} layout: training on {}{}{} (--include '**' takes all)",
                            in_quotes(options.data), layout.name, layout.training,
                            validates ? ", validating on " + layout.validation : "",
                            rest.empty() ? "" : ", not on " + some_in_quotes(rest)));
}

/// The images in a folder of options.data; their names are relative to that.
FoundImages find_part(const DataOptions& options, const std::string& part, const Refusal& refuse,
                      const Callbacks& callbacks) {
  const fs::path root = options.data;
  if (part.empty()) return find_images(root, options, refuse, callbacks);
  return find_images(root / part, options, refuse, callbacks, part + "/");
}

/// Takes validation images out of training, unless none would be left then.
void take_out(const std::vector<ImageEntry>& validation, std::vector<ImageEntry>& training,
              const Callbacks& callbacks) {
  const auto file_of = [](const ImageEntry& entry) {
    struct stat status {};
    ::stat(entry.file.path.c_str(), &status);
    return std::pair(status.st_dev, status.st_ino);
  };
  std::set<std::pair<dev_t, ino_t>> files;
  for (const ImageEntry& entry : validation) files.insert(file_of(entry));
  std::vector<ImageEntry> rest;
  for (const ImageEntry& entry : training) {
    if (!files.contains(file_of(entry))) rest.push_back(entry);
  }
  const auto shared = training.size() - rest.size();
  if (rest.empty()) {
    callbacks.warn(
        "all training images are validation images as well: validation cannot show "
        "what the network does with other images");
  } else if (shared > 0) {
    callbacks.say(
        fmt::format("{} validation images are among the training images: taken out of "
                    "training",
                    shared));
    training = std::move(rest);
  }
}

void warn_of_what_is_not_read(const std::vector<ImageEntry>& entries, const Callbacks& callbacks) {
  Remarks remarks;
  for (const ImageEntry& entry : entries) {
    const ImageInfo& info = entry.info;
    if (info.pages > 1) {
      remarks[fmt::format("only the first of its {}{} pages is read", info.pages,
                          info.pages < kMaxPages ? "" : " or more")]
          .push_back(entry.file.name);
    }
    if (!info.remark.empty()) remarks[info.remark].push_back(entry.file.name);
  }
  for (const std::string& line : lines_of(remarks)) callbacks.warn(line);
}

}  // namespace

FoundImages find_images(const fs::path& folder, const DataOptions& options, const Refusal& refuse,
                        const Callbacks& callbacks, const std::string& prefix) {
  ImageFolder listed = list_images(folder, {options.include, options.exclude}, prefix);
  keep_named(listed, options.images);
  tell_of(listed, callbacks);
  const bool is_training = has_role(prefix.substr(0, prefix.find('/')), FolderRole::training);
  if (folder == fs::path(options.data) || is_training) {
    for (const std::string& glob : listed.unmatched) {
      callbacks.warn(glob + " matches no image; all below a folder is 'folder/**'");
    }
  }
  FoundImages found = scan_headers(listed, options.max_pixels, worker_count(options.workers),
                                   options.index, callbacks);
  found.folder = folder;
  std::erase_if(found.entries, [&](const ImageEntry& entry) {
    const auto reason = refuse(entry);
    if (reason) found.skipped.push_back({entry.file.name, *reason});
    return reason.has_value();
  });
  for (const SkippedFile& file : found.skipped) callbacks.warn(skipped_line(file));
  if (!options.skip_bad && !found.skipped.empty()) {
    const SkippedFile& first = found.skipped[0];
    throw std::runtime_error(in_quotes(first.name) + ": " + first.reason +
                             " (--skip-bad is false)");
  }
  if (found.entries.empty()) {
    const std::string passed_over = passed_over_text(listed);
    throw std::runtime_error(fmt::format("no usable image in {} ({} skipped{}{}); convae reads {}",
                                         in_quotes(folder), found.skipped.size(),
                                         passed_over.empty() ? "" : ", passed over: ", passed_over,
                                         kReadFormats));
  }
  warn_of_what_is_not_read(found.entries, callbacks);
  warn_of_masks(found.entries, callbacks);
  warn_of_labels(found.entries, callbacks);
  return found;
}

FoundImages find_good_images(const DataOptions& options, const Refusal& refuse,
                             const Callbacks& callbacks) {
  const auto layout = layout_of(options);
  if (!layout) return find_part(options, "", refuse, callbacks);
  const std::string& part = layout->validation.empty() ? layout->training : layout->validation;
  callbacks.say(fmt::format("{} has the {} layout: good images are those in {}",
                            in_quotes(options.data), layout->name, part));
  return find_part(options, part, refuse, callbacks);
}

Size size_in_batches(const ImageEntry& entry, const DataOptions& options) {
  return options.crop ? options.crop : options.size ? options.size : entry.file_size();
}

std::optional<std::string> why_not_cropped(const ImageEntry& entry, const DataOptions& options) {
  const Size whole = options.size ? options.size : entry.file_size();
  if (options.crop.h <= whole.h && options.crop.w <= whole.w) return std::nullopt;
  return "smaller than the crop of " + to_string(options.crop);
}

SplitImages split_images(const DataOptions& options, const Refusal& refuse,
                         const Callbacks& callbacks) {
  SplitImages split;
  const auto layout = layout_of(options);
  if (layout) tell_of(*layout, options, callbacks);
  FoundImages all = find_part(options, layout ? layout->training : "", refuse, callbacks);
  split.folder = all.folder;
  FoundImages validation;
  if (!options.val.empty()) {
    DataOptions others = options;
    others.images.clear();  // those are of options.data
    validation = find_images(options.val, others, refuse, callbacks);
  } else if (layout && !layout->validation.empty()) {
    validation = find_part(options, layout->validation, refuse, callbacks);
  }
  const bool is_apart = !validation.entries.empty();
  if (is_apart) take_out(validation.entries, all.entries, callbacks);
  if (!layout && options.images.empty()) warn_of_test_images(all.entries, callbacks);
  split.channels = options.channels > 0                                    ? options.channels
                   : all_grey(all.entries) && all_grey(validation.entries) ? 1
                                                                           : 3;
  split.validation = std::move(validation.entries);
  const Grouping grouping(options.group_regex);
  for (ImageEntry& entry : all.entries) {
    const bool held_out =
        !is_apart && in_validation_share(grouping.of(entry.file.name), options.val_split);
    (held_out ? split.validation : split.training).push_back(std::move(entry));
  }
  if (split.training.empty()) {
    throw std::runtime_error(fmt::format(
        "all {} images in {} fall into the validation share; use more images, --val DIR "
        "or --val-split 0",
        split.validation.size(), in_quotes(options.data)));
  }
  split.keep_headers = [first = std::move(all.keep_headers),
                        second = std::move(validation.keep_headers)] {
    first();
    second();
  };
  split.skipped = std::move(all.skipped);
  split.skipped.insert(split.skipped.end(), validation.skipped.begin(), validation.skipped.end());
  return split;
}

}  // namespace convae
