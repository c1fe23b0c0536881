#include "convae/data/split.h"

#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/grouping.h"

#include <fmt/format.h>

#include <stdexcept>

namespace convae {
namespace fs = std::filesystem;

FoundImages find_images(const fs::path& folder, const DataOptions& options, const Refusal& refuse,
                        const Callbacks& callbacks, const std::string& prefix) {
  FoundImages found =
      scan_headers(list_images(folder), options.max_pixels, worker_count(options.workers));
  found.folder = folder;
  for (SkippedFile& file : found.skipped) file.name.insert(0, prefix);
  for (ImageEntry& entry : found.entries) entry.file.name.insert(0, prefix);
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
    throw std::runtime_error(fmt::format(
        "no usable image in {} ({} skipped); convae reads JPEG, PNG, BMP, TIFF and WebP",
        in_quotes(folder), found.skipped.size()));
  }
  for (const ImageEntry& entry : found.entries) {
    const int pages = entry.info.pages;
    if (pages == 1) continue;
    callbacks.warn(fmt::format("{}: only the first of its {}{} pages is read",
                               in_quotes(entry.file.name), pages,
                               pages < kMaxPages ? "" : " or more"));
  }
  return found;
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
  split.folder = training_folder(options.data);
  if (split.folder != fs::path(options.data)) {
    callbacks.say(in_quotes(options.data) + " has the MVTec layout: training on train/good");
  }
  // Names are relative to the folder the user named.
  const fs::path inner = split.folder.lexically_relative(options.data);
  FoundImages all = find_images(split.folder, options, refuse, callbacks,
                                inner == "." ? "" : inner.generic_string() + "/");
  FoundImages validation;
  if (!options.val.empty()) validation = find_images(options.val, options, refuse, callbacks);
  split.channels = options.channels > 0                                    ? options.channels
                   : all_grey(all.entries) && all_grey(validation.entries) ? 1
                                                                           : 3;
  split.validation = std::move(validation.entries);
  const Grouping grouping(options.group_regex);
  for (ImageEntry& entry : all.entries) {
    const bool held_out =
        options.val.empty() && in_validation_share(grouping.of(entry.file.name), options.val_split);
    (held_out ? split.validation : split.training).push_back(std::move(entry));
  }
  if (split.training.empty()) {
    throw std::runtime_error(fmt::format(
        "all {} images in {} fall into the validation share; use more images, --val DIR "
        "or --val-split 0",
        split.validation.size(), in_quotes(options.data)));
  }
  split.skipped = std::move(all.skipped);
  split.skipped.insert(split.skipped.end(), validation.skipped.begin(), validation.skipped.end());
  return split;
}

}  // namespace convae
