#include "convae/app/training_data.h"

#include "convae/app/inference.h"
#include "convae/core/files.h"
#include "convae/data/grouping.h"
#include "convae/metrics/similarity.h"

#include <spdlog/spdlog.h>

namespace convae::app {
namespace fs = std::filesystem;

void require_images(const std::vector<ImageEntry>& entries, const std::string& folder,
                    std::size_t skipped) {
  if (!entries.empty()) return;
  throw std::runtime_error("no usable image in '" + printable(folder) + "' (" +
                           std::to_string(skipped) +
                           " skipped); convae reads JPEG, PNG, BMP, TIFF and WebP");
}

namespace {

FolderScan scan(const fs::path& folder, const DataOptions& options) {
  return scan_headers(list_images(folder), options.max_pixels, worker_count(options.workers));
}

/// Leaves out what cannot be cropped, does not fit the levels or is too small for the loss.
void keep_usable(FolderScan& scan, const Options& all) {
  const DataOptions& options = all.data;
  const std::vector<LevelSpec> levels = all.model.levels;
  std::vector<ImageEntry> usable;
  for (ImageEntry& entry : scan.entries) {
    const Size stored = options.size.h > 0 ? options.size : entry.file_size();
    const Size seen = size_in_batches(entry, options);
    std::optional<std::string> reason = why_impossible(levels, {seen.h, seen.w});
    if (needs_window(all.train.loss) && std::min(seen.h, seen.w) < kSimilarityWindow) {
      reason = "smaller than the " + std::to_string(kSimilarityWindow) +
               " pixels a side that the loss " + to_string(all.train.loss) + " needs";
    }
    if (seen.h > stored.h || seen.w > stored.w) {
      reason = "smaller than the crop of " + to_string(seen);
    }
    if (reason) {
      scan.skipped.push_back({entry.file.name, *reason});
    } else {
      usable.push_back(std::move(entry));
    }
  }
  scan.entries = std::move(usable);
}

/// Where no file is of use, says of each why; otherwise describe() will.
void require_usable(const FolderScan& scan, const std::string& folder) {
  if (scan.entries.empty()) log_skipped(scan.skipped);
  require_images(scan.entries, folder, scan.skipped.size());
}

}  // namespace

Size size_in_batches(const ImageEntry& entry, const DataOptions& options) {
  if (options.crop.h > 0) return options.crop;
  return options.size.h > 0 ? options.size : entry.file_size();
}

TrainingData find_images(const Options& all_options) {
  const DataOptions& options = all_options.data;
  TrainingData data;
  data.folder = training_folder(options.data);
  if (data.folder != fs::path(options.data)) {
    spdlog::info("'{}' has the MVTec layout: training on train/good", printable(options.data));
  }
  FolderScan all = scan(data.folder, options);
  // Names are relative to the folder the user named.
  const fs::path inner = data.folder.lexically_relative(options.data);
  const std::string prefix = inner == "." ? "" : inner.generic_string() + "/";
  for (ImageEntry& entry : all.entries) entry.file.name.insert(0, prefix);
  for (SkippedFile& file : all.skipped) file.name.insert(0, prefix);
  keep_usable(all, all_options);
  require_usable(all, options.data);
  FolderScan validation;
  if (!options.val.empty()) {
    validation = scan(options.val, options);
    keep_usable(validation, all_options);
    require_usable(validation, options.val);
  }
  data.channels = options.channels > 0                                    ? options.channels
                  : all_grey(all.entries) && all_grey(validation.entries) ? 1
                                                                          : 3;
  data.validation = std::move(validation.entries);
  const Grouping grouping(options.group_regex);
  for (ImageEntry& entry : all.entries) {
    const bool held_out =
        options.val.empty() && in_validation_share(grouping.of(entry.file.name), options.val_split);
    (held_out ? data.validation : data.training).push_back(std::move(entry));
  }
  if (data.training.empty()) {
    throw std::runtime_error(
        "all " + std::to_string(data.validation.size()) + " images in '" + printable(options.data) +
        "' fall into the validation share; use more " + "images, --val DIR or --val-split 0");
  }
  log_unread_pages(data.training);
  log_unread_pages(data.validation);
  data.skipped = std::move(all.skipped);
  data.skipped.insert(data.skipped.end(), validation.skipped.begin(), validation.skipped.end());
  return data;
}

}  // namespace convae::app
