#include "convae/inspection/inspector.h"

#include "convae/core/text.h"
#include "convae/data/grouping.h"
#include "convae/data/header_index.h"
#include "convae/inference/folder.h"
#include "convae/inspection/views.h"
#include "convae/models/pixels.h"
#include "convae/training/saved_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace convae {
namespace {

/// More images change nothing in the noise that can be seen.
constexpr std::int64_t kNoiseImages = 100;
constexpr std::size_t kMostTrainingImages = 500;
constexpr std::size_t kMostFolds = 10;

/// Images without a defect that others are compared with.
struct GoodImages {
  /// Images the network was trained on, for what good images leave at each place (at most
  /// kMostTrainingImages, spread evenly), and after them held-out ones, which the network was not
  /// trained on, for everything that decides about a score.
  std::vector<ImageEntry> entries;
  /// Of each of entries, see AnomalyScorer: images of one group share a fold.
  std::vector<int> folds;
  int fold_count = 0;
  std::int64_t groups = 0;  ///< of held-out images
  std::int64_t training_images = 0;
};

std::vector<ImageEntry> evenly_spread(std::vector<ImageEntry> entries, std::size_t most) {
  if (entries.size() <= most) return entries;
  std::vector<ImageEntry> chosen;
  for (std::size_t i = 0; i < most; ++i) chosen.push_back(entries[i * entries.size() / most]);
  return chosen;
}

/// The images of the model's run, split as in training, which has told what it skipped.
SplitImages images_of_run(const Model& model, const Callbacks& callbacks) {
  SavedData run = saved_data(model.info());
  std::error_code error;
  if (run.data.data.empty() || !std::filesystem::exists(run.data.data, error)) {
    throw std::runtime_error("the folder this model was trained on, " + in_quotes(run.data.data) +
                             ", is not there, and with it the good images to calibrate on; name a "
                             "folder of such images with --good DIR");
  }
  run.data.skip_bad = true;
  run.data.index = index_beside_run(model.path());
  const Refusal refuse = unfit_for_training(model.options(), run.data, run.loss);
  Callbacks silent = callbacks;
  silent.info = silent.warning = nullptr;
  SplitImages images = split_images(run.data, refuse, silent);
  images.keep_headers();
  return images;
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

/// The images of the folder options.data.data, all taken as held out; where that is empty, those of
/// the model's run: its training images and those it kept out of training.
GoodImages good_images_for(const Model& model, const FolderOptions& options,
                           const Callbacks& callbacks) {
  GoodImages good;
  std::vector<ImageEntry> held_out;
  if (options.data.data.empty()) {
    SplitImages run = images_of_run(model, callbacks);
    good.entries = evenly_spread(std::move(run.training), kMostTrainingImages);
    held_out = std::move(run.validation);
  } else {
    const Size size = fixed_network_size(options.data.size, model.options());
    DataOptions data = options.data;
    data.index = index_beside_run(model.path());
    FoundImages found = find_good_images(data, unfit_for(model.options(), size), callbacks);
    found.keep_headers();
    held_out = std::move(found.entries);
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

}  // namespace

FolderOptions CalibrateOptions::complete(const Model& model) const {
  const DataOptions run = saved_data(model.info()).data;
  FolderOptions complete = good;
  // Images of another size look different to a network, and parts are told apart as for the split.
  complete.data.size = size.value_or(run.size);
  complete.data.group_regex = group_regex.value_or(run.group_regex);
  complete.validate();
  return complete;
}

Inspector::Inspector(const Model& model, Size size, std::string group_regex,
                     std::shared_ptr<AnomalyScorer> scorer)
    : model_(model),
      size_(size),
      group_regex_(std::move(group_regex)),
      scorer_(std::move(scorer)) {}

Inspector Inspector::calibrate(const Model& model, const CalibrateOptions& options,
                               const Callbacks& callbacks) {
  const FolderOptions complete = options.complete(model);
  const GoodImages good = good_images_for(model, complete, callbacks);
  Inspector inspector(model, fixed_network_size(complete.data.size, model.options()),
                      complete.data.group_regex,
                      std::make_shared<AnomalyScorer>(kImageViews, good.fold_count));
  AnomalyScorer& scorer = *inspector.scorer_;
  Calibration& calibration = inspector.calibration_;
  ModelFolder folder(model, {{}, good.entries, {}}, complete, callbacks);
  const auto pass = [&](const char* stage, const auto& use) {
    for_each_viewed(folder, stage, "the good images", callbacks, [&](const ViewedImage& image) {
      return use(image, good.folds[static_cast<std::size_t>(image.index)]);
    });
  };
  std::int64_t seen = 0;
  pass("noise", [&](const ViewedImage& image, int fold) {
    if (fold != AnomalyScorer::kTrainingFold && good.training_images > 0) return true;
    scorer.learn_noise(image.views);
    return ++seen < kNoiseImages;
  });
  pass("good images", [&](const ViewedImage& image, int fold) {
    scorer.learn_locations(image.views, fold);
    return true;
  });
  pass("calibration", [&](const ViewedImage& image, int fold) {
    scorer.calibrate(image.views, fold);
    if (fold == AnomalyScorer::kTrainingFold) return true;
    calibration.scores[kMeanError].push_back(image.mean_error);
    calibration.scores[kArea].push_back(static_cast<double>(image.pixels[0].numel()));
    return true;
  });
  scorer.finish();
  for (const AnomalyScorer::Scores& scores : scorer.good_scores()) {
    for (const Way way : kMappedWays) calibration.scores[way].push_back(scores[way]);
  }
  calibration.groups = good.groups;
  calibration.training_images = good.training_images;
  return inspector;
}

ImageScore Inspector::score(const torch::Tensor& image, bool with_map) const {
  const Size own{image.size(1), image.size(2)};
  const torch::Tensor seen = size_ && size_ != own ? resize_image(image, size_.h, size_.w) : image;
  const torch::Tensor input = model_.input(alone(seen));
  const ViewedImage viewed = views_of(input[0].cpu(), model_.reconstruct(input)[0].cpu());
  require_finite(viewed.mean_error, "the image");
  if (!with_map) return {scorer_->score(viewed.views)[kNetwork], {}};
  AnomalyScorer::Maps maps;
  const double score = scorer_->score(viewed.views, &maps)[kNetwork];
  return {score, resize_map(maps[kNetwork], own)};
}

}  // namespace convae
