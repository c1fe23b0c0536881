#include "convae/data/split.h"

#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/globs.h"
#include "convae/data/grouping.h"
#include "convae/data/layout.h"
#include "convae/data/suspicious_names.h"
#include "convae/data/windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string_view>

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

/// Of the files listed, those that `images` names; all where it is empty. Warns of what is missing.
void keep_named(ImageFolder& listed, const std::vector<std::string>& images,
                const Callbacks& callbacks) {
  if (images.empty()) return;
  const std::set<std::string> names(images.begin(), images.end());
  std::set<std::string> missing = names;
  const auto is_other = [&](std::string_view name) {
    const std::string shown = printable(name);
    missing.erase(shown);
    return !names.contains(shown);
  };
  listed.files.take_if([&](std::size_t place) { return is_other(listed.files.name(place)); });
  std::erase_if(listed.skipped, [&](const SkippedFile& file) { return is_other(file.name); });
  if (missing.empty()) return;
  callbacks.warn(fmt::format("{} of {} files that 'images' names are not there: {}", missing.size(),
                             names.size(), some_in_quotes({missing.begin(), missing.end()})));
}

bool name_folders(const std::vector<std::string>& globs) {
  return std::ranges::any_of(globs, [](const std::string& glob) {
    return glob == "**" || glob.find('/') != std::string::npos;
  });
}

/// Whether the user named folders or images, so that no layout counts.
bool are_chosen(const DataOptions& options) {
  return !options.images.empty() || name_folders(options.include);
}

std::optional<InspectionLayout> layout_of(const DataOptions& options) {
  return are_chosen(options) ? std::nullopt : find_layout(options.data);
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

/// In which folder of options.data its layout has good images: that for validation, else that for
/// training; empty: in all. Throws std::runtime_error where there is a folder of images with
/// defects and none of good ones.
std::string part_with_good_images(const DataOptions& options, const Callbacks& callbacks) {
  if (const auto layout = layout_of(options)) {
    const std::string& part = layout->validation.empty() ? layout->training : layout->validation;
    callbacks.say(fmt::format("{} has the {} layout: good images are those in {}",
                              in_quotes(options.data), layout->name, part));
    return part;
  }
  const auto bad = subfolder(options.data, FolderRole::bad);
  if (bad && !are_chosen(options) && !name_folders(options.exclude)) {
    throw std::runtime_error(fmt::format(
        "{} has images with defects in {}, and no folder of good ones, such as good or OK; name a "
        "folder of good images",
        in_quotes(options.data), in_quotes(*bad)));
  }
  return "";
}

/// The images in a folder of options.data; their names are relative to that.
FoundImages find_part(const DataOptions& options, const std::string& part, const Refusal& refuse,
                      const Callbacks& callbacks, std::vector<std::string>* unmatched = nullptr) {
  const fs::path root = options.data;
  if (part.empty()) return find_images(root, options, refuse, callbacks, "", unmatched);
  return find_images(root / part, options, refuse, callbacks, part + "/", unmatched);
}

/// Where validation images lie in a folder of their own, groups are as they were put there.
void warn_of_shared_groups(const ImageEntries& training, const ImageEntries& validation,
                           const Grouping& grouping, const Callbacks& callbacks) {
  if (!grouping.groups()) return;
  std::set<std::string> groups;
  for (std::size_t i = 0; i < validation.size(); ++i) {
    if (auto group = grouping.found_in(validation.name(i))) groups.insert(std::move(*group));
  }
  std::size_t shared = 0;
  for (std::size_t i = 0; i < training.size(); ++i) {
    const auto group = grouping.found_in(training.name(i));
    shared += group && groups.contains(*group) ? 1 : 0;
  }
  if (shared == 0) return;
  callbacks.warn(fmt::format(
      "{} training images are of groups that the validation images have, too: validation cannot "
      "show what the network does with other groups",
      shared));
}

/// Takes validation images out of training, unless none would be left then.
void take_out(const ImageEntries& validation, ImageEntries& training, const Callbacks& callbacks) {
  std::set<ImageId> images;
  for (const ImageFile& file : validation.files()) images.insert(image_id(file));
  ImageEntries rest = training;
  const std::size_t shared =
      rest.take_if([&](std::size_t i) { return images.contains(image_id(training.files()[i])); })
          .size();
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

void warn_of_what_is_not_read(const ImageEntries& entries, const Callbacks& callbacks) {
  Remarks remarks;
  const ImageInfos& infos = entries.infos();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (const int pages = infos.pages(i); pages > 1) {
      remarks[fmt::format("only the first of its {}{} pages is read", pages,
                          pages < kMaxPages ? "" : " or more")]
          .push_back(entries.name(i));
    }
    if (!infos.remark(i).empty()) remarks[infos.remark(i)].push_back(entries.name(i));
  }
  for (const std::string& line : lines_of(remarks)) callbacks.warn(line);
}

}  // namespace

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
  const auto shards = listed.passed_over.find(".tar");
  if (shards == listed.passed_over.end() || listed.files.empty()) return;
  callbacks.warn(fmt::format("{} .tar files lie beside images and are not read; ", shards->second) +
                 (listed.files.is_in_shard(0) ? "unpack those that are in a shard"
                                              : "to use them, name them, such as --data " +
                                                    in_quotes(listed.root / "x-{000..146}.tar")));
}

std::string unmatched_line(const std::string& glob, const fs::path& folder) {
  return glob + " matches no image in " + in_quotes(folder) + "; all below a folder is 'folder/**'";
}

FoundImages find_images(const fs::path& folder, const DataOptions& options, const Refusal& refuse,
                        const Callbacks& callbacks, const std::string& prefix,
                        std::vector<std::string>* unmatched) {
  ImageFolder listed =
      list_images(folder, {options.include, options.exclude}, prefix, options.index, callbacks);
  keep_named(listed, options.images, callbacks);
  tell_of(listed, callbacks);
  if (unmatched != nullptr) {
    *unmatched = listed.unmatched;
  } else {
    for (const std::string& glob : listed.unmatched) callbacks.warn(unmatched_line(glob, folder));
  }
  const std::string passed_over = passed_over_text(listed);
  const auto keep_members = std::move(listed.keep_members);
  // Of a larger image, crops alone may be decoded.
  const bool takes_crops = options.crop && !options.size;
  FoundImages found = scan_headers(std::move(listed), takes_crops ? kAnyArea : options.max_pixels,
                                   worker_count(options.workers), options.index, callbacks);
  found.folder = folder;
  found.keep_headers = [members = keep_members, headers = std::move(found.keep_headers)] {
    members();
    headers();
  };
  found.entries.take_if([&](std::size_t i) {
    const Size size = found.entries.infos().size(i);
    auto reason = why_too_large(size, takes_crops ? options.max_pixels : kAnyArea);
    if (!reason || reads_in_parts(found.entries.files()[i])) {
      reason = refuse(found.entries[i]);
    }
    if (reason) found.skipped.push_back({found.entries.name(i), *reason});
    return reason.has_value();
  });
  for (const SkippedFile& file : found.skipped) callbacks.warn(skipped_line(file));
  if (!options.skip_bad && !found.skipped.empty()) {
    const SkippedFile& first = found.skipped[0];
    throw std::runtime_error(in_quotes(first.name) + ": " + first.reason +
                             " (--skip-bad is false)");
  }
  if (found.entries.empty()) {
    std::string first;
    if (!found.skipped.empty()) {
      const SkippedFile& file = found.skipped[0];
      first = ", such as " + in_quotes(file.name) + ": " + printable(file.reason);
    }
    throw std::runtime_error(fmt::format(
        "no usable image in {} ({} skipped{}{}{}){}", in_quotes(folder), found.skipped.size(),
        first, passed_over.empty() ? "" : ", passed over: ", passed_over,
        first.empty() ? std::string("; convae reads ") + kReadFormats : ""));
  }
  warn_of_what_is_not_read(found.entries, callbacks);
  warn_of_masks(found.entries.files(), callbacks);
  return found;
}

bool has_good_images(const DataOptions& options) {
  const std::string part = part_with_good_images(options, {});
  const fs::path root = options.data;
  return !list_images(part.empty() ? root : root / part, {options.include, options.exclude},
                      part.empty() ? "" : part + "/")
              .files.empty();
}

FoundImages find_good_images(const DataOptions& options, const Refusal& refuse,
                             const Callbacks& callbacks) {
  return find_part(options, part_with_good_images(options, callbacks), refuse, callbacks);
}

Size size_in_batches(const ImageEntry& entry, const DataOptions& options) {
  return options.crop ? options.crop : options.size ? options.size : entry.file_size();
}

std::optional<std::string> why_not_cropped(const ImageEntry& entry, const DataOptions& options) {
  const Size whole = options.size ? options.size : entry.file_size();
  if (options.crop.h <= whole.h && options.crop.w <= whole.w) return std::nullopt;
  return "smaller than the crop of " + to_string(options.crop) + "; use a smaller --crop";
}

SplitImages split_images(const DataOptions& options, const Refusal& refuse,
                         const Callbacks& callbacks) {
  SplitImages split;
  const auto layout = layout_of(options);
  if (layout) tell_of(*layout, options, callbacks);
  FoundImages all = find_part(options, layout ? layout->training : "", refuse, callbacks);
  split.folder = all.folder;
  FoundImages validation;
  std::vector<std::string> unmatched;  // globs that are for the training images
  if (!options.val.empty()) {
    DataOptions others = options;
    others.images.clear();  // those are of options.data
    validation = find_images(options.val, others, refuse, callbacks, "", &unmatched);
  } else if (layout && !layout->validation.empty()) {
    validation = find_part(options, layout->validation, refuse, callbacks, &unmatched);
  }
  const bool is_apart = !validation.entries.empty();
  const Grouping grouping(options.group_regex);
  if (is_apart) {
    take_out(validation.entries, all.entries, callbacks);
    warn_of_shared_groups(all.entries, validation.entries, grouping, callbacks);
  }
  if (!layout && options.images.empty()) warn_of_test_images(all.entries.files(), callbacks);
  split.channels = options.channels > 0                                    ? options.channels
                   : all_grey(all.entries) && all_grey(validation.entries) ? 1
                                                                           : 3;
  split.validation = std::move(validation.entries);
  split.training = std::move(all.entries);
  if (!is_apart) {
    const std::size_t count = split.training.size();
    std::size_t strays = 0;
    split.validation = split.training.take_if([&](std::size_t i) {
      const std::string name = split.training.name(i);
      const std::optional<std::string> group = grouping.found_in(name);
      strays += group ? 0 : 1;
      return in_validation_share(group.value_or(name), options.val_split);
    });
    if (grouping.groups() && strays > 0) callbacks.warn(strays_line(strays, count));
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
