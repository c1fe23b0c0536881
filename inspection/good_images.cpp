#include "convae/inspection/good_images.h"

#include "convae/core/text.h"
#include "convae/data/grouping.h"
#include "convae/inspection/scorer.h"
#include "convae/training/saved_data.h"
#include "convae/training/usable_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

namespace convae {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMostFolds = 10;

std::vector<ImageEntry> spread(std::vector<ImageEntry> entries, std::size_t most) {
  if (entries.size() <= most) return entries;
  std::vector<ImageEntry> chosen;
  for (std::size_t i = 0; i < most; ++i) chosen.push_back(entries[i * entries.size() / most]);
  return chosen;
}

/// The images of the model's run, split as in training, which has told what it skipped.
SplitImages images_of_run(const Model& model, const Callbacks& callbacks) {
  SavedData run = saved_data(model.info());
  std::error_code error;
  if (run.data.data.empty() || !fs::exists(run.data.data, error)) {
    throw std::runtime_error("the folder this model was trained on, " + in_quotes(run.data.data) +
                             ", is not there, and with it the good images to calibrate on; name a "
                             "folder of such images with --good DIR");
  }
  run.data.skip_bad = true;
  const Refusal refuse = unfit_for_training(model.options(), run.data, run.loss);
  Callbacks silent = callbacks;
  silent.warning = nullptr;
  return split_images(run.data, refuse, silent);
}

/// The images of each group, in the order of their names.
std::vector<std::vector<ImageEntry>> groups_of(const std::vector<ImageEntry>& entries,
                                               const Grouping& grouping) {
  std::map<std::string, std::vector<ImageEntry>> by_name;
  for (const ImageEntry& entry : entries) by_name[grouping.of(entry.file.name)].push_back(entry);
  std::vector<std::vector<ImageEntry>> groups;
  for (auto& [name, images] : by_name) groups.push_back(std::move(images));
  return groups;
}

/// Adds the groups, dealt to the folds in turns, fold by fold.
void deal_into_folds(GoodImages& good, const std::vector<std::vector<ImageEntry>>& groups) {
  const std::size_t folds = std::min(kMostFolds, groups.size());
  good.fold_count = static_cast<int>(folds);
  for (std::size_t fold = 0; fold < folds; ++fold) {
    for (std::size_t i = fold; i < groups.size(); i += folds) {
      good.folds.insert(good.folds.end(), groups[i].size(), static_cast<int>(fold));
      good.entries.insert(good.entries.end(), groups[i].begin(), groups[i].end());
    }
  }
}

}  // namespace

GoodImages find_good_images(const Model& model, const FolderOptions& options,
                            const Callbacks& callbacks) {
  GoodImages good;
  std::vector<ImageEntry> held_out;
  if (options.data.data.empty()) {
    SplitImages run = images_of_run(model, callbacks);
    good.entries = spread(std::move(run.training), kMostTrainingImages);
    held_out = std::move(run.validation);
  } else {
    const Size size = fixed_network_size(options.data.size, model.options());
    held_out = find_images(training_folder(options.data.data), options.data,
                           unfit_for(model.options(), size), callbacks)
                   .entries;
  }
  if (held_out.size() < AnomalyScorer::kFewestImages) {
    throw std::runtime_error(
        fmt::format("scores compare images with good images that the network was not trained on: "
                    "there are {}, but at least {} are needed; train with a share of them kept out "
                    "of training (--val-split 0.2), or name a folder of others with --good DIR",
                    held_out.size(), AnomalyScorer::kFewestImages));
  }
  good.training_images = std::ssize(good.entries);
  good.folds.assign(good.entries.size(), AnomalyScorer::kTrainingFold);
  auto groups = groups_of(held_out, Grouping(options.data.group_regex));
  good.groups = std::ssize(groups);
  if (groups.size() == 1) {
    callbacks.warn(
        "all good images are of one group: the threshold may be too low for other parts");
    groups = groups_of(held_out, Grouping());
  }
  deal_into_folds(good, groups);
  return good;
}

}  // namespace convae
