#include "convae/inspection/inspector.h"

#include "convae/inference/folder.h"
#include "convae/inspection/good_images.h"
#include "convae/inspection/heat_map.h"
#include "convae/inspection/views.h"
#include "convae/models/pixels.h"
#include "convae/training/saved_data.h"

namespace convae {
namespace {

/// More images change nothing in the noise that can be seen.
constexpr std::int64_t kNoiseImages = 100;

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

Inspector::Inspector(const Model& model, const DataOptions& data, int folds)
    : model_(model),
      size_(fixed_network_size(data.size, model.options())),
      group_regex_(data.group_regex),
      scorer_(std::make_shared<AnomalyScorer>(kImageViews, folds)) {}

Inspector Inspector::calibrate(const Model& model, const CalibrateOptions& options,
                               const Callbacks& callbacks) {
  const FolderOptions complete = options.complete(model);
  const GoodImages good = find_good_images(model, complete, callbacks);
  Inspector inspector(model, complete.data, good.fold_count);
  inspector.learn(good, complete, callbacks);
  return inspector;
}

void Inspector::learn(const GoodImages& good, const FolderOptions& options,
                      const Callbacks& callbacks) {
  ModelFolder folder(model_, {{}, good.entries, {}}, options, callbacks);
  const auto pass = [&](const char* stage, const auto& use) {
    for_each_viewed(folder, stage, "the good images", callbacks, [&](const ViewedImage& image) {
      return use(image, good.folds[static_cast<std::size_t>(image.index)]);
    });
  };
  std::int64_t seen = 0;
  pass("noise", [&](const ViewedImage& image, int fold) {
    if (fold != AnomalyScorer::kTrainingFold && good.training_images > 0) return true;
    scorer_->learn_noise(image.views);
    return ++seen < kNoiseImages;
  });
  pass("good images", [&](const ViewedImage& image, int fold) {
    scorer_->learn_locations(image.views, fold);
    return true;
  });
  pass("calibration", [&](const ViewedImage& image, int fold) {
    scorer_->calibrate(image.views, fold);
    if (fold == AnomalyScorer::kTrainingFold) return true;
    calibration_.scores[kMeanError].push_back(image.mean_error);
    calibration_.scores[kArea].push_back(static_cast<double>(image.pixels[0].numel()));
    return true;
  });
  scorer_->finish();
  for (const AnomalyScorer::Scores& scores : scorer_->good_scores()) {
    for (const Way way : kMappedWays) calibration_.scores[way].push_back(scores[way]);
  }
  calibration_.groups = good.groups;
  calibration_.training_images = good.training_images;
}

ImageScore Inspector::score(const torch::Tensor& image) const {
  const Size own{image.size(1), image.size(2)};
  const torch::Tensor seen = size_ && size_ != own ? resize_image(image, size_.h, size_.w) : image;
  const torch::Tensor input = to_float(seen.unsqueeze(0), model_.device());
  const ViewedImage viewed = views_of(input[0].cpu(), model_.reconstruct(input)[0].cpu());
  require_finite(viewed.mean_error, "the image");
  AnomalyScorer::Maps maps;
  const double score = scorer_->score(viewed.views, &maps)[kNetwork];
  return {score, resize_map(maps[kNetwork], own)};
}

}  // namespace convae
