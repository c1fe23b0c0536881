#include "convae/inspection/inspector.h"

#include "convae/core/machine.h"
#include "convae/core/parallel.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/grouping.h"
#include "convae/data/header_index.h"
#include "convae/data/mat.h"
#include "convae/inference/folder.h"
#include "convae/inspection/faults.h"
#include "convae/inspection/views.h"
#include "convae/models/pixels.h"
#include "convae/training/collective.h"
#include "convae/training/saved_data.h"

#include <c10/core/InferenceMode.h>

#include <fmt/format.h>
#include <opencv2/core.hpp>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

namespace convae {
namespace {

constexpr std::size_t kMostTrainingImages = 500;
constexpr int kFolds = 5;
/// Pictures with a drawn fault that are learnt from, unless one good image each gives more.
constexpr std::int64_t kFaultyPictures = 3000;
/// Of pictures that are looked at side by side.
constexpr std::int64_t kPixelsTogether = 6'000'000;

using Example = AnomalyScorer::Example;

/// Images without a defect that others are compared with: some that the network was trained on (at
/// most kMostTrainingImages, spread evenly), and held-out ones, which show what unseen images get.
struct GoodImages {
  std::vector<ImageEntry> entries;
  std::vector<Example> examples;  ///< of each of entries
};

std::vector<ImageEntry> evenly_spread(const ImageEntries& entries, std::size_t most) {
  const std::size_t count = std::min(entries.size(), most);
  std::vector<ImageEntry> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(entries[i * entries.size() / count]);
  return chosen;
}

/// The images of the model's run, split as in training, which has told of those it skipped; without
/// those that are too small for the network at `size`.
SplitImages images_of_run(const Model& model, const DataOptions& options, Size size,
                          const Callbacks& callbacks) {
  const auto impossible = size ? why_impossible(model.options().levels, size) : std::nullopt;
  if (impossible) throw OptionError(*impossible);
  SavedData run = saved_data(model.info());
  const bool lacks_validation = !run.data.val.empty() && !has_images(run.data.val);
  if (lacks_validation || run.data.data.empty() || !has_images(run.data.data)) {
    throw std::runtime_error(
        "the folder this model was trained on, " +
        in_quotes(lacks_validation ? run.data.val : run.data.data) +
        ", is not there, and with it the good images to calibrate on; name a folder of such images "
        "with --good DIR");
  }
  run.data.skip_bad = options.skip_bad;
  run.data.max_pixels = options.max_pixels;  // in training, of a crop
  run.data.index = index_beside_run(model.path());
  const auto refuse = [in_training = unfit_for_training(model.options(), run.data, run.loss),
                       now = unfit_for(model.options(), size)](const ImageEntry& entry) {
    const auto reason = in_training(entry);
    return reason ? reason : now(entry);
  };
  run.data.crop = {};  // they are looked at as a whole
  Callbacks silent = callbacks;
  silent.info = silent.warning = nullptr;
  SplitImages images = split_images(run.data, refuse, silent);
  const std::set<std::string> told = names_in(model.run(), "skipped.csv");
  for (const SkippedFile& file : images.skipped) {
    if (!told.contains(printable(file.name))) callbacks.warn(skipped_line(file));
  }
  if (leads()) images.keep_headers();
  keep_to_trained_images(images, run_of(model), model.info(), callbacks);
  return images;
}

using Groups = std::map<std::string, std::vector<ImageEntry>>;  // by name

Groups groups_of(const std::vector<ImageEntry>& entries, const Grouping& grouping) {
  Groups groups;
  for (const ImageEntry& entry : entries) groups[grouping.of(entry.file.name)].push_back(entry);
  return groups;
}

/// Adds the groups, dealt to the folds in turns.
void deal_into_folds(GoodImages& good, const Groups& groups, bool held_out) {
  int fold = 0;
  for (const auto& [name, group] : groups) {
    good.examples.insert(good.examples.end(), group.size(), {.fold = fold, .held_out = held_out});
    good.entries.insert(good.entries.end(), group.begin(), group.end());
    fold = (fold + 1) % kFolds;
  }
}

/// Good images are to be new to the network.
void warn_of_trained_images(const std::vector<ImageEntry>& good, const std::string& folder,
                            const Model& model, const Callbacks& callbacks) {
  const auto image_at = [&](std::int64_t i) { return good[static_cast<std::size_t>(i)].file; };
  const OwnImages own = own_images_among(std::ssize(good), image_at, model.run(), model.info());
  if (own.training == 0 && own.namesakes == 0) return;
  const std::string which =
      own.training > 0
          ? fmt::format("the network was trained on {} of the {} images of {}", own.training,
                        good.size(), in_quotes(folder))
          : fmt::format(
                "the network was trained on images with the names of {} of the {} in {}, in "
                "a folder that is gone; if they are these",
                own.namesakes, good.size(), in_quotes(folder));
  callbacks.warn(which + ": the threshold may be too low; name others with --good DIR");
}

/// A pattern that does not match leaves each image in a group of its own. Training has already
/// warned of the run's own images with its own pattern.
void warn_of_strays(const std::vector<ImageEntry>& images, const DataOptions& options,
                    const Model& model, const Callbacks& callbacks) {
  const Grouping grouping(options.group_regex);
  const bool is_told =
      options.data.empty() && options.group_regex == saved_data(model.info()).data.group_regex;
  if (is_told || !grouping.groups()) return;
  const auto strays = static_cast<std::size_t>(std::ranges::count_if(
      images, [&](const ImageEntry& entry) { return !grouping.found_in(entry.file.name); }));
  if (strays > 0) callbacks.warn(strays_line(strays, images.size()));
}

/// The images of the folder options.data.data, all taken as held out; where that is empty, those of
/// the model's run: its training images and those it kept out of training.
GoodImages good_images_for(const Model& model, const FolderOptions& options,
                           const Callbacks& callbacks) {
  std::vector<ImageEntry> training, held_out;
  std::string found;  // how many are held out, for people
  const Size size = fixed_network_size(options.data.size, model.options());
  if (options.data.data.empty()) {
    SplitImages run = images_of_run(model, options.data, size, callbacks);
    training = evenly_spread(run.training, kMostTrainingImages);
    held_out = {run.validation.begin(), run.validation.end()};
    found = fmt::format(
        "of the {} images of this run, {} were kept out of training (more images, a larger "
        "--val-split or a --group-regex that makes more groups change that)",
        run.training.size() + held_out.size(), held_out.size());
  } else {
    DataOptions data = options.data;
    data.index = index_beside_run(model.path());
    FoundImages good = find_good_images(data, unfit_for(model.options(), size), callbacks);
    if (leads()) good.keep_headers();
    held_out = {good.entries.begin(), good.entries.end()};
    found = fmt::format("{} has {}", in_quotes(options.data.data), held_out.size());
    warn_of_trained_images(held_out, options.data.data, model, callbacks);
  }
  if (held_out.size() < AnomalyScorer::kFewestImages) {
    throw std::runtime_error(fmt::format(
        "scores compare images with at least {} good ones that the network was not trained on, but "
        "{}; name a folder of others with --good DIR",
        AnomalyScorer::kFewestImages, found));
  }
  warn_of_strays(held_out, options.data, model, callbacks);
  const Grouping grouping(options.data.group_regex);
  Groups groups = groups_of(held_out, grouping);
  if (groups.size() == 1) {
    callbacks.warn(
        "all good images are of one group: the threshold may be too low for other parts");
    groups = groups_of(held_out, Grouping());
  }
  GoodImages good;
  deal_into_folds(good, groups, /*held_out=*/true);
  deal_into_folds(good, groups_of(training, grouping), /*held_out=*/false);
  return good;
}

/// Of enough good images, too many may turn out to be damaged.
void with_enough_images(const std::function<void()>& learn) try {
  learn();
} catch (const std::invalid_argument& error) {
  throw std::runtime_error(std::string("too few of the good images can be read (") + error.what() +
                           "); name a folder of others with --good DIR");
}

/// Draws faults on good images as the network sees them: each image gets some of the kinds.
class FaultDrawing {
public:
  FaultDrawing(ModelFolder& folder, const AnomalyScorer& scorer)
      : model_(folder.model()),
        scorer_(scorer),
        others_(good_pictures(folder.dataset())),
        an_image_(std::clamp<std::int64_t>(kFaultyPictures / folder.size(), 1, kFaultKinds)) {}

  /// Adds what is to be learnt of an image with each of its faults, in order. Several are looked at
  /// side by side: at most kPixelsTogether, or what fits memory.
  void observe_each(const ViewedImage& image, const Example& example,
                    std::vector<AnomalyScorer::Learnt>& learnt) const {
    const std::int64_t free = free_memory_bytes();
    const std::int64_t fitting =
        free > 0 ? std::min(kPixelsTogether, free / kViewBytesAPixel) : kPixelsTogether;
    const std::int64_t together = std::max<std::int64_t>(1, fitting / image.seen.size.area());
    for (std::int64_t first = 0; first < an_image_; first += together) {
      std::vector<AnomalyScorer::Learnt> found(
          static_cast<std::size_t>(std::min(together, an_image_ - first)));
      parallel_for_each(std::ssize(found), [&](std::int64_t i) {
        found[static_cast<std::size_t>(i)] = observe(image, example, first + i);
      });
      std::ranges::move(found, std::back_inserter(learnt));
    }
  }

private:
  AnomalyScorer::Learnt observe(const ViewedImage& image, Example example, std::int64_t nth) const {
    const auto random_of = [&](std::uint64_t item) {
      return CounterRandom(/*seed=*/0, /*epoch=*/0, static_cast<std::uint64_t>(image.index),
                           Purpose::corruption, item);
    };
    // From a random one on, so that every fold sees every kind.
    const std::uint64_t place = random_of(0).below(kFaultKinds) + static_cast<std::uint64_t>(nth);
    const int kind = 1 + static_cast<int>(place % kFaultKinds);
    CounterRandom random = random_of(static_cast<std::uint64_t>(kind));
    torch::Tensor pixels =
        image.input[0].cpu().permute({1, 2, 0}).clone(at::MemoryFormat::Contiguous);
    torch::Tensor marks = torch::zeros({pixels.size(0), pixels.size(1), 1});
    cv::Mat picture = mat_view(pixels), label = mat_view(marks);
    draw_fault(picture, kind, random, others_, &label);
    const torch::Tensor input = alone(pixels.permute({2, 0, 1})).to(image.input.device());
    example.kind = kind;
    return scorer_.observe(look_at(model_, input), example,
                           is_defect(kind) ? marks.squeeze(2) : torch::Tensor());
  }

  const Model& model_;
  const AnomalyScorer& scorer_;
  GoodPictures others_;
  std::int64_t an_image_;
};

/// What is told of a good image, as it is and with faults.
struct Observed {
  std::int64_t index = 0;
  double mean_error = 0, area = 0;
  std::vector<AnomalyScorer::Learnt> learnt;

  template <typename Self>
  static auto parts(Self& self) {
    return std::tie(self.index, self.mean_error, self.area, self.learnt);
  }
};

}  // namespace

FolderOptions CalibrateOptions::complete(const Model& model) const {
  const DataOptions run = saved_data(model.info()).data;
  FolderOptions complete = good;
  // Images of another size look different to a network, and parts are told apart as for the split.
  const ModelOptions& net = model.options();
  complete.data.size = size.value_or(net.latent > 0 ? net.size : run.size);
  complete.data.group_regex = group_regex.value_or(run.group_regex);
  complete.validate();
  complete.batch_size = 1;  // shares images evenly among ranks
  return complete;
}

Inspector::Inspector(const Model& model, Size size, std::string group_regex,
                     std::shared_ptr<AnomalyScorer> scorer)
    : model_(model), size_(size), group_regex_(std::move(group_regex)), scorer_(std::move(scorer)) {
  calibration_.precision = model.precision();
}

Inspector Inspector::calibrate(const Model& model, const CalibrateOptions& options,
                               const Callbacks& callbacks) {
  const c10::InferenceMode with_gradients(false);  // whatever the caller's mode
  const FolderOptions complete = options.complete(model);
  const GoodImages good = good_images_for(model, complete, callbacks);
  Inspector inspector(model, fixed_network_size(complete.data.size, model.options()),
                      complete.data.group_regex, std::make_shared<AnomalyScorer>(kFolds));
  AnomalyScorer& scorer = *inspector.scorer_;
  Calibration& calibration = inspector.calibration_;
  ModelFolder folder(model, {{}, good.entries, {}}, complete, callbacks);
  folder.require_memory_at_own_size(/*bytes_a_value=*/2);  // as measured
  const auto example_of = [&](std::int64_t index) {
    return good.examples[static_cast<std::size_t>(index)];
  };
  const auto pass = [&](const char* stage, const auto& make, const auto& use) {
    for_each_viewed(folder, stage, "the good images", callbacks, make, use);
  };
  pass(
      "good images",
      [&](const ViewedImage& image) {
        return std::pair(AnomalyScorer::seen_at_places(image.seen), example_of(image.index).fold);
      },
      [&](const auto& seen) { scorer.learn_places(seen.first, seen.second); });
  with_enough_images([&] { scorer.close_places(); });
  const FaultDrawing faults(folder, scorer);
  const Grouping grouping(complete.data.group_regex);
  std::set<std::string> groups;  // of the held-out images that can be read
  pass(
      "calibration",
      [&](const ViewedImage& image) {
        const Example example = example_of(image.index);
        Observed observed{image.index,
                          image.seen.mean_error,
                          static_cast<double>(image.pixels[0].numel()),
                          {scorer.observe(image.seen, example)}};
        faults.observe_each(image, example, observed.learnt);
        return observed;
      },
      [&](Observed observed) {
        for (AnomalyScorer::Learnt& learnt : observed.learnt) scorer.learn(std::move(learnt));
        if (!example_of(observed.index).held_out) return;
        groups.insert(grouping.of(folder.name(observed.index)));
        calibration.scores[kMeanError].push_back(observed.mean_error);
        calibration.scores[kArea].push_back(observed.area);
      });
  with_enough_images([&] { scorer.finish(); });
  for (const AnomalyScorer::Scores& scores : scorer.good_scores()) {
    for (const Way way : kMappedWays) calibration.scores[way].push_back(scores[way]);
  }
  calibration.groups = std::ssize(groups);
  calibration.training_images = std::ranges::count(good.examples, false, &Example::held_out);
  inspector.good_ = options.good.data;
  std::string& good_folder = inspector.good_.data;
  if (!good_folder.empty()) good_folder = absolute_path(good_folder).string();
  return inspector;
}

ImageScore Inspector::score(const torch::Tensor& image, double map_above) const {
  const bool is_fixed = model_.info().value_range.is_fixed();
  return score_placed(is_fixed ? model_.input(image.unsqueeze(0))[0].cpu() : image, map_above);
}

ImageScore Inspector::score_placed(const torch::Tensor& image, double map_above) const {
  const Size own{image.size(1), image.size(2)};
  const bool fits = !size_ || size_ == own;
  const torch::Tensor shown = alone(fits ? image : resize_image(image, size_.h, size_.w));
  const SeenImage seen = look_at(model_, to_float(shown, model_.device()));
  if (image.is_floating_point() && !image.isfinite().all().item<bool>()) {
    throw std::invalid_argument("the image has values that are not finite");
  }
  require_finite(seen.mean_error, "the image");
  const StandardisedMaps maps = scorer_->look(seen);
  const double score = scorer_->score(maps)[kNetwork];
  if (!(score > map_above)) return {score, {}};
  return {score, resize_map(scorer_->heat_map(kNetwork).of(maps, seen.size), own)};
}

}  // namespace convae
