#include "convae/inspection/good_images.h"

#include "convae/app/inference.h"
#include "convae/app/training_data.h"
#include "convae/core/files.h"
#include "convae/data/grouping.h"
#include "convae/inspection/scorer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kMostFolds = 10;

constexpr const char* kWaysOut =
    "train with a share of them kept out of training (--val-split 0.2), or name a folder of others "
    "with --good DIR";

std::vector<ImageEntry> spread(std::vector<ImageEntry> entries, std::size_t most) {
  if (entries.size() <= most) return entries;
  std::vector<ImageEntry> chosen;
  for (std::size_t i = 0; i < most; ++i) chosen.push_back(entries[i * entries.size() / most]);
  return chosen;
}

/// Groups in the order of their names, dealt to the folds in turns, and images in the order of
/// their folds.
void deal_into_folds(GoodImages& good, const Grouping& grouping) {
  std::map<std::string, std::vector<ImageEntry>> groups;
  for (ImageEntry& entry : good.held_out) {
    groups[grouping.of(entry.file.name)].push_back(std::move(entry));
  }
  good.groups = static_cast<std::int64_t>(groups.size());
  std::vector<std::vector<ImageEntry>> dealt;
  dealt.reserve(groups.size());
  for (auto& [group, entries] : groups) dealt.push_back(std::move(entries));
  if (dealt.size() == 1) {
    spdlog::warn("all good images are of one group: the threshold may be too low for other parts");
    const std::vector<ImageEntry> entries = std::move(dealt[0]);
    dealt.clear();
    for (const ImageEntry& entry : entries) dealt.push_back({entry});
  }
  good.fold_count = std::min(kMostFolds, static_cast<std::int64_t>(dealt.size()));
  good.held_out.clear();
  for (std::int64_t fold = 0; fold < good.fold_count; ++fold) {
    for (auto i = static_cast<std::size_t>(fold); i < dealt.size();
         i += static_cast<std::size_t>(good.fold_count)) {
      good.folds.insert(good.folds.end(), dealt[i].size(), static_cast<int>(fold));
      std::move(dealt[i].begin(), dealt[i].end(), std::back_inserter(good.held_out));
    }
  }
}

std::vector<ImageEntry> images_of(const Options& options, const ModelOptions& model) {
  const fs::path folder = training_folder(options.call.good);
  FolderScan scan = scan_headers(list_images(folder), options.data.max_pixels,
                                 worker_count(options.data.workers));
  return usable_images(scan, options.call.good, options, model);
}

/// The run's images, split as in training.
GoodImages images_of_run(const Options& run) {
  std::error_code error;
  if (run.data.data.empty() || !fs::exists(run.data.data, error)) {
    throw std::runtime_error("the folder this model was trained on, '" + printable(run.data.data) +
                             "', is not there, and with it the good images to calibrate on; name a "
                             "folder of such images with --good DIR");
  }
  TrainingData data = find_images(run);
  return {
      spread(std::move(data.training), kMostTrainingImages), std::move(data.validation), {}, 0, 0};
}

}  // namespace

GoodImages find_good_images(const Options& options, const Options& run, const ModelOptions& model) {
  GoodImages good;
  if (options.call.good.empty()) {
    good = images_of_run(run);
  } else {
    good.held_out = images_of(options, model);
  }
  if (good.held_out.size() < AnomalyScorer::kFewestImages) {
    throw std::runtime_error(
        fmt::format("scores are held against good images that the network was not trained on, and "
                    "of those there are {}, where at least {} are needed; {}",
                    good.held_out.size(), AnomalyScorer::kFewestImages, kWaysOut));
  }
  deal_into_folds(good, Grouping(options.data.group_regex));
  return good;
}

}  // namespace convae::app
