#include "convae/inspection/folds.h"

#include "convae/core/csv.h"
#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/core/random.h"
#include "convae/core/text.h"
#include "convae/data/dataset.h"
#include "convae/data/grouping.h"
#include "convae/data/split.h"
#include "convae/inference/tiles.h"
#include "convae/inspection/scorer.h"
#include "convae/inspection/test_set.h"
#include "convae/training/image_list.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iomanip>
#include <map>
#include <set>
#include <sstream>

namespace convae {
namespace fs = std::filesystem;
namespace {

constexpr const char* kRecipe = "recipe.json";
constexpr const char* kDeal = "deal.csv";
constexpr const char* kFoldPrefix = "fold-";

/// Names are as printable() shows them.
struct LabelledImages {
  std::map<std::string, std::string> good;  // name → group
  std::vector<std::string> defects;
};

LabelledImages find_labelled(const DataOptions& data, const Callbacks& callbacks) {
  const fs::path root = data.data;
  require_images(root);
  const InspectionFolder layout(root);
  const Grouping grouping(data.group_regex);
  LabelledImages images;
  std::map<std::string, std::size_t> unmatched;  // in how many folders each glob matches nothing
  const auto add = [&](const fs::path& folder, const std::string& prefix) {
    std::vector<std::string> globs;
    const FoundImages found = find_images(
        folder, data, [](const ImageEntry&) { return std::nullopt; }, callbacks, prefix, &globs);
    for (const std::string& glob : std::set(globs.begin(), globs.end())) ++unmatched[glob];
    for (const ImageEntry& entry : found.entries) {
      const std::string& name = entry.file.name;
      const std::string label = layout.label(name);
      if (label == kGoodLabel) {
        images.good.emplace(printable(name), grouping.of(name));
      } else if (!label.empty()) {
        images.defects.push_back(printable(name));
      }
    }
  };
  if (layout.labelled) {
    add(layout.images, layout.prefix);
    for (const std::string& folder : layout.good_folders) add(root / folder, folder + "/");
    for (const auto& [glob, folders] : unmatched) {
      if (folders > layout.good_folders.size()) callbacks.warn(unmatched_line(glob, root));
    }
  }
  require_option(!images.good.empty() && !images.defects.empty(),
                 "--data " + in_quotes(root) +
                     ": --folds needs good images and some with defects, in folders such as good "
                     "and scratch, or train/good and test/scratch (see docs/inspection.md)");
  return images;
}

/// The fold, from 0, that tests each group: they take turns in a random order.
std::map<std::string, std::int64_t> deal_groups(const LabelledImages& images, std::int64_t folds,
                                                std::uint64_t seed) {
  std::set<std::string> names;
  for (const auto& [name, group] : images.good) names.insert(group);
  std::vector<std::string> groups(names.begin(), names.end());
  require_option(groups.size() > 1,
                 fmt::format("--folds '{}': all good images are of one group, so none can be kept "
                             "out of training; check --group-regex",
                             folds));
  require_option(folds >= 2 && folds <= std::ssize(groups),
                 fmt::format("--folds '{}': expected 2 to {}, the number of groups of good images",
                             folds, groups.size()));
  CounterRandom random(seed, 0, 0, Purpose::folds);
  for (std::size_t i = groups.size(); i > 1; --i) std::swap(groups[i - 1], groups[random.below(i)]);
  std::map<std::string, std::int64_t> fold_of;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    fold_of[groups[i]] = static_cast<std::int64_t>(i) % folds;
  }
  return fold_of;
}

class Folds {
public:
  Folds(FoldsOptions options, const Callbacks& callbacks)
      : options_(std::move(options)),
        callbacks_(callbacks),
        output_(options_.scoring.output, options_.scoring.overwrite) {}

  FoldsResult run() {
    check();
    DataOptions data = options_.recipe.data;
    data.index = (output_.root() / ".index").string();
    images_ = find_labelled(data, callbacks_);
    fold_of_ = deal_groups(images_, options_.folds, options_.recipe.train.seed);
    require_held_out();
    keep_settings();
    for (const char* name : {"folds.csv", "folds.json"}) output_.reserve_exact(name);
    callbacks_.begin_writing();
    for (const char* name : {"folds.csv", "folds.json"}) output_.drop(name);
    FoldsResult result{std::ssize(fold_of_), std::ssize(images_.good), options_.scoring.fpr, {}};
    for (std::int64_t fold = 0; fold < options_.folds; ++fold) {
      result.folds.push_back(run_fold(fold));
      if (options_.on_fold) options_.on_fold(fold + 1, result.folds.back());
    }
    write_file(output_.prepare("folds.csv"), to_csv(result));
    write_file(output_.prepare("folds.json"), to_json(result, /*indent=*/2) + "\n");
    return result;
  }

private:
  /// What can be known before the first image is read.
  void check() const {
    options_.scoring.validate();
    const TrainJob& recipe = options_.recipe;
    recipe.data.validate();
    recipe.train.validate();
    if (const std::int64_t tile = options_.scoring.images.tile.value_or(0); tile != 0) {
      require_tiles(tile, recipe.model, recipe.data);
    }
    require_option(recipe.data.val_split > 0,
                   "--folds: the recipe keeps no images out of training to calibrate on "
                   "(val-split 0); set val-split to 0.2, say, in [data]");
  }

  /// A calibration needs some; better to know before the first training.
  void require_held_out() const {
    const DataOptions& data = options_.recipe.data;
    if (!data.val.empty()) return;
    for (std::int64_t fold = 0; fold < options_.folds; ++fold) {
      const auto held_out = std::ranges::count_if(images_.good, [&](const auto& image) {
        const std::string& group = image.second;
        return fold_of_.at(group) != fold && in_validation_share(group, data.val_split);
      });
      require_option(held_out >= std::int64_t{AnomalyScorer::kFewestImages},
                     fmt::format("--folds '{}': fold {} would keep {} good images out of training "
                                 "to calibrate on, and at least {} are needed; use a larger "
                                 "val-split than {} in [data]",
                                 options_.folds, fold + 1, held_out, AnomalyScorer::kFewestImages,
                                 number_text(data.val_split)));
    }
  }

  /// Runs are kept, so what they depend on must be the same in every call.
  void keep_settings() {
    const fs::path path = output_.root() / kRecipe;
    const bool is_new = !fs::exists(path);
    if (is_new && fs::exists(output_.root()) && !fs::is_empty(output_.root())) {
      throw std::runtime_error(
          in_quotes(output_.root()) +
          " holds other files than those of --folds; name a new folder with -o");
    }
    const auto is_run = [](const std::string& name) { return name.starts_with(kFoldPrefix); };
    if (!is_new && std::ranges::any_of(subfolders(output_.root()), is_run)) {
      require_same_settings(path);
      require_same_images();
      return;
    }
    nlohmann::ordered_json json;
    for (const auto& [option, value] : all_settings()) json[option] = printable(value);
    std::ostringstream deal;
    deal << "path,group,fold\n";
    for (const auto& [name, group] : images_.good) {
      // Not csv_field(), which would escape what is printable already.
      deal << std::quoted(name, '"', /*escape=*/'"') << "," << csv_field(group) << ","
           << fold_of_.at(group) + 1 << "\n";
    }
    write_file(output_.prepare(kRecipe), json.dump(/*indent=*/2) + "\n");
    write_file(output_.prepare(kDeal), deal.str());
  }

  std::vector<std::pair<std::string, std::string>> all_settings() const {
    auto settings = options_.settings;
    settings.insert(settings.begin(),
                    {{"folds", std::to_string(options_.folds)},
                     {"data", fs::canonical(options_.recipe.data.data).string()}});
    return settings;
  }

  void require_same_settings(const fs::path& path) const {
    const auto saved = nlohmann::json::parse(read_text(path), nullptr, /*allow_exceptions=*/false);
    if (!saved.is_object()) {
      throw std::runtime_error(in_quotes(path) + " is damaged; name a new folder with -o");
    }
    for (const auto& [option, value] : all_settings()) {
      const auto was = saved.find(option);
      const std::string before =
          was != saved.end() && was->is_string() ? was->get<std::string>() : "";
      const std::string now = printable(value);  // as what was saved
      require_option(before == now,
                     fmt::format("-o {}: its runs were made with {} '{}', and this call has '{}'; "
                                 "give the same, or name a new folder",
                                 in_quotes(output_.root()), option, before, now));
    }
  }

  void require_same_images() const {
    ImageList before, now;
    CsvReader deal(output_.root() / kDeal);
    while (deal.next()) before.training.push_back(deal.text("path"));
    for (const auto& [name, group] : images_.good) now.training.push_back(name);
    const std::string changes = changes_between(before, now);
    require_option(
        changes.empty(),
        fmt::format("-o {}: the good images in {} are not those it was made with: {}; "
                    "name a new folder",
                    in_quotes(output_.root()), in_quotes(options_.recipe.data.data), changes));
  }

  ScoreResult run_fold(std::int64_t fold) try {
    callbacks_.say(fmt::format("fold {} of {}", fold + 1, options_.folds));
    const fs::path run = train_fold(fold);
    const Model model = load(run, options_.recipe.run.device);
    CalibrateOptions calibration{.good = options_.scoring.images};
    calibration.good.data.data.clear();  // those of the run
    const Inspector inspector = calibrate_run(model, calibration, callbacks_);
    ScoreOptions scoring = options_.scoring;
    scoring.images.data.images = images_of_fold(fold, /*tested=*/true);
    scoring.output = run / "scores";
    scoring.overwrite = true;
    return inspector.score(scoring, callbacks_);
  } catch (const Interrupted&) {
    throw Interrupted(fmt::format("stopped in fold {} of {}; the same call goes on from there",
                                  fold + 1, options_.folds));
  }

  /// Its run folder, with the run finished.
  fs::path train_fold(std::int64_t fold) const {
    TrainJob job = options_.recipe;
    job.run.output = output_.root().string();
    job.run.name = kFoldPrefix + std::to_string(fold + 1);
    job.data.images = images_of_fold(fold, /*tested=*/false);
    const fs::path run = output_.root() / job.run.name;
    if (fs::exists(run / "weights" / "last.safetensors")) {
      job.resume = run;
    } else {
      fs::remove_all(run);  // of a run that was ended before its first checkpoint
    }
    return train(std::move(job), callbacks_).folder;
  }

  std::vector<std::string> images_of_fold(std::int64_t fold, bool tested) const {
    std::vector<std::string> names;
    for (const auto& [name, group] : images_.good) {
      if ((fold_of_.at(group) == fold) == tested) names.push_back(name);
    }
    if (tested) names.insert(names.end(), images_.defects.begin(), images_.defects.end());
    return names;
  }

  FoldsOptions options_;
  const Callbacks& callbacks_;
  OutputFolder output_;
  LabelledImages images_;
  std::map<std::string, std::int64_t> fold_of_;  // of each group
};

}  // namespace

FoldsResult score_folds(FoldsOptions options, const Callbacks& callbacks) {
  return Folds(std::move(options), callbacks).run();
}

}  // namespace convae
