#include "convae/core/errors.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/grouping.h"
#include "convae/data/header_index.h"
#include "convae/data/split.h"
#include "convae/inference/folder.h"
#include "convae/inspection/inspector.h"
#include "convae/inspection/saved_inspector.h"
#include "convae/inspection/score_files.h"
#include "convae/inspection/score_report.h"
#include "convae/inspection/test_set.h"
#include "convae/inspection/tiled_view.h"
#include "convae/inspection/views.h"
#include "convae/training/saved_data.h"
#include "convae/training/shared_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// What Interrupted says was looked at.
constexpr const char* kTheImages = "the images; no scores.csv was written";

/// The images to list, for a network that sees them at `size`. Those that are named may lie
/// anywhere in the folder.
FolderOptions images_of(const ScoreOptions& options, const InspectionFolder& layout, Size size) {
  options.validate();
  FolderOptions images = options.images;
  if (images.data.images.empty()) {
    images.data.data = layout.images.string();
    images.prefix = layout.prefix;
  }
  images.data.size = size;
  images.batch_size = 1;  // shares them evenly among ranks
  return images;
}

bool writes_maps(const ScoreOptions& options) {
  return !options.output.empty() && options.heat_maps;
}

/// A folder whose images are found and whose results have names.
class FolderScoring {
public:
  FolderScoring(const Model& model, Size size, const ScoreOptions& options,
                const Callbacks& callbacks)
      : options_(options),
        callbacks_(callbacks),
        layout_(options.images.data.data),
        folder_(
            model, images_of(options, layout_, size), callbacks, ImagesAt::own_size,
            TilePlan::Job{.result = model.options().detector.empty() ? TiledResult::reconstruction
                                                                     : TiledResult::detection,
                          .bytes_a_pixel = kViewBytesAPixel,
                          .bytes_written = writes_maps(options) ? 5 : 0}) {  // overlay and heat
    folder_.require_memory_at_own_size(/*bytes_a_value=*/47);  // as measured, with heat maps
    const fs::path data = options.images.data.data;
    std::error_code error;
    const bool is_folder = fs::is_directory(data, error);
    if (!fs::equivalent(options.output, data, error)) {
      require_option(!is_folder || !folder_.has_images_in(options.output),
                     among_images(options.output));
      warn_of_other_images(options.output, callbacks);
    }
    if (!options.output.empty()) files_.emplace(options, folder_);
    ranks().barrier();  // all have looked whether files exist before one writes any
    if (files_ && leads()) files_->require_writable();  // before a calibration, which takes minutes
    callbacks.begin_writing();
  }

  ScoreResult run(const Inspector& inspector) {
    scores_.calibration = inspector.calibration();
    scores_.rate = options_.fpr;
    scores_.thresholds = scores_.calibration.thresholds(options_.fpr);
    if (writes_maps(options_)) scores_.heat_full_scale = HeatMap::kMost;
    warn_of_other_maps();
    if (files_ && options_.report) report_.emplace(scores_.thresholds[kNetwork]);
    grouping_ = Grouping(inspector.group_regex());
    warn_of_strays();
    if (layout_.labelled) {
      warn_of_own_images(inspector);
      callbacks_.say("good images and kinds of defects are told by the folders in " +
                     in_quotes(layout_.images));
    }
    const AnomalyScorer& scorer = inspector.scorer();
    if (files_ && leads()) files_->begin();
    const auto note_found = [&](Found found) {
      if (found.shown) report_->add(found.image, std::move(*found.shown));
      scores_.images.push_back(std::move(found.image));
    };
    for_each_viewed(
        folder_, "score", kTheImages, callbacks_,
        [&](const ViewedImage& image) { return score(image, scorer); }, note_found);
    folder_.for_each_tiled(
        [&](std::int64_t index, ImageWindows& picture) {
          return score_tiled(index, picture, scorer);
        },
        note_found);
    if (files_) files_->finish_maps();
    hear_counts();
    scores_.skipped = folder_.skipped();
    std::ranges::sort(scores_.images, {}, &ScoredImage::name);
    ScoreResult result = summarize(std::move(scores_), options_.seed);
    if (!files_ || !leads()) return result;
    files_->write_results(result);
    if (report_) files_->write_report(report_->page(result, name_of_folder()));
    return result;
  }

private:
  /// Some layouts have one folder of good images, for training and test.
  void warn_of_own_images(const Inspector& inspector) const {
    const std::set<ImageId> learnt = calibrated_images(inspector.good());
    std::int64_t good = 0, own = 0;
    std::vector<std::int64_t> others;
    for (std::int64_t i = 0; i < folder_.size(); ++i) {
      if (layout_.label(folder_.name(i)) != kGoodLabel) continue;
      ++good;
      if (learnt.contains(image_id(folder_.entry(i).file))) {
        ++own;
      } else {
        others.push_back(i);
      }
    }
    const Model& model = folder_.model();
    const auto image_at = [&](std::int64_t i) {
      return folder_.entry(others[static_cast<std::size_t>(i)]).file;
    };
    const OwnImages of_run =
        own_images_among(std::ssize(others), image_at, model.run(), model.info());
    own += of_run.training + of_run.validation;
    if (own == 0) return;
    // As folds do, whose images are none of the run's but by another name.
    const bool names_images = !options_.images.data.images.empty();
    callbacks_.warn(fmt::format(
        "{} of {} good images are among those this run was trained or calibrated on: measures come "
        "out too well; {}",
        own, good,
        names_images
            ? "where they are links to each other, keep one of each, such as with --exclude"
            : "judge with --folds, or on other good images"));
  }

  /// What a calibration takes of a folder; none where that has nothing to do with this one, or
  /// nothing is left there.
  std::set<ImageId> calibrated_images(const DataOptions& good) const {
    std::set<ImageId> images;
    std::error_code error;
    const fs::path own = fs::weakly_canonical(options_.images.data.data, error);
    const fs::path other = fs::weakly_canonical(good.data, error);
    if (good.data.empty() || (!lies_below(own, other) && !lies_below(other, own))) return images;
    DataOptions data = good;
    data.workers = options_.images.data.workers;
    data.max_pixels = options_.images.data.max_pixels;
    data.skip_bad = true;
    data.index = index_beside_run(folder_.model().path());
    Callbacks silent = callbacks_;
    silent.info = silent.warning = nullptr;
    const auto takes_all = [](const ImageEntry&) { return std::nullopt; };
    try {
      const FoundImages found = find_good_images(data, takes_all, silent);
      for (const ImageFile& file : found.entries.files()) images.insert(image_id(file));
    } catch (const Interrupted&) {
      throw;
    } catch (const std::runtime_error&) {
      images.clear();
    }
    return images;
  }

  /// What is told of an image.
  struct Found {
    ScoredImage image;
    std::optional<ScoreReport::Pictures> shown;  ///< where the report may want it

    template <typename Self>
    static auto parts(Self& self) {
      return std::tie(self.image.name, self.image.label, self.image.group, self.image.scores,
                      self.shown);
    }
  };

  void warn_of_other_maps() const {
    const fs::path maps = fs::path(options_.output) / "overlay";
    if (!files_ || !options_.overwrite || options_.heat_maps || !is_there(maps)) return;
    callbacks_.warn(in_quotes(maps) +
                    " and the maps in 'heat' are of an earlier call, not of these "
                    "scores; remove them, or choose another -o");
  }

  std::string name_of_folder() const {
    const fs::path path = fs::absolute(options_.images.data.data);
    return printable((path / "").lexically_normal().parent_path().filename().string());
  }

  void warn_of_strays() const {
    if (!grouping_.groups()) return;
    const std::vector<std::string> names = folder_.names();
    const auto strays = static_cast<std::size_t>(std::ranges::count_if(
        names, [&](const std::string& name) { return !grouping_.found_in(name); }));
    if (strays > 0) callbacks_.warn(strays_line(strays, names.size()));
  }

  /// Adds up what each rank has counted.
  void hear_counts() {
    if (ranks().size() == 1) return;
    MaskCount& masks = scores_.masks;
    const std::vector<std::pair<std::string, std::int64_t>> missing(masks.missing.begin(),
                                                                    masks.missing.end());
    std::vector<std::tuple<Way, std::string, PixelMetrics::Counts>> pixels;
    for (const Way way : kMappedWays) {
      for (const auto& [label, of_label] : scores_.pixels[way]) {
        pixels.emplace_back(way, label, of_label.counts());
      }
    }
    const auto told = told_by_ranks(std::tuple(masks.images, masks.found, missing, pixels));
    masks = {};
    scores_.pixels = {};
    for (const auto& [images, found, by_reason, by_label] : told) {
      masks.images += images;
      masks.found += found;
      for (const auto& [reason, count] : by_reason) masks.missing[reason] += count;
      for (const auto& [way, label, counts] : by_label) scores_.pixels[way][label] += counts;
    }
  }

  Found score(const ViewedImage& image, const AnomalyScorer& scorer) {
    const StandardisedMaps maps = scorer.look(image.seen);
    const Size own{image.pixels.size(1), image.pixels.size(2)};
    Found found{scored(image.index, scorer.score(maps), image.seen.mean_error, own), {}};
    const std::optional<torch::Tensor> mask = mask_of(found.image, image.index);
    const auto heat_map = [&](Way way) {
      return resize_map(scorer.heat_map(way).of(maps, image.seen.size), own);
    };
    const bool is_shown = report_ && report_->wants(found.image);
    const bool is_drawn = writes_maps(options_) || is_shown;
    const torch::Tensor map = mask || is_drawn ? heat_map(kNetwork) : torch::Tensor();
    for (const Way way : kMappedWays) {
      if (!mask) break;
      scores_.pixels[way][found.image.label].add(way == kNetwork ? map : heat_map(way), *mask);
    }
    if (!is_drawn) return found;
    const torch::Tensor overlay = heat_over_image(image.pixels, map);
    if (writes_maps(options_)) files_->write_map(image.index, map, overlay);
    if (is_shown) found.shown = ScoreReport::pictures_of(image.pixels, overlay);
    return found;
  }

  ScoredImage scored(std::int64_t index, const AnomalyScorer::Scores& scores, double mean_error,
                     Size own) const {
    const std::string name = folder_.name(index);
    ScoredImage image{name, layout_.label(name), grouping_.of(name), {}};
    for (const Way way : kMappedWays) image.scores[way] = scores[way];
    image.scores[kMeanError] = mean_error;
    image.scores[kArea] = static_cast<double>(own.area());
    return image;
  }

  Found score_tiled(std::int64_t index, ImageWindows& picture, const AnomalyScorer& scorer) {
    std::optional<ScoreFiles::TiledMaps> files;
    std::optional<SmallCopies> copies;
    if (writes_maps(options_)) files.emplace(*files_, index, picture.size());
    const std::int64_t side = folder_.tiles().side(folder_.entry(index));
    if (report_) copies.emplace(picture.size(), score_tile_side(side));
    TiledScoring following;
    if (files || copies) {
      following.use_heat = [&](const Region& tile, const torch::Tensor& pixels,
                               const torch::Tensor& heat) {
        const torch::Tensor overlay = heat_over_image(pixels, heat);
        if (files) files->put(tile, heat, overlay);
        if (copies) copies->put(tile, pixels, overlay);
      };
    }
    following.tile_done = [&](std::int64_t done, std::int64_t total) {
      if (callbacks_.stopped()) {
        throw Interrupted(std::string("stopped while looking at ") + kTheImages);
      }
      callbacks_.show("tiles", done, total);
    };
    const TiledScore tiled = score_in_tiles(folder_.model(), scorer, picture, side, following);
    require_finite(tiled.mean_error, folder_.name(index));
    Found found{scored(index, tiled.scores, tiled.mean_error, picture.size()), {}};
    if (const std::string& label = found.image.label; !label.empty() && label != kGoodLabel) {
      ++scores_.masks.images;
      ++scores_.masks.missing["of a picture in tiles"];
    }
    if (files) files->commit();
    if (report_ && report_->wants(found.image)) {
      found.shown = ScoreReport::pictures_of(copies->picture(), copies->overlay(), picture.size());
    }
    return found;
  }

  /// (H, W) bool: where a defect is. Undefined for a good image; nullopt where nothing is known of
  /// pixels, which is counted.
  std::optional<torch::Tensor> mask_of(const ScoredImage& image, std::int64_t index) {
    if (image.label == kGoodLabel) return torch::Tensor();
    if (image.label.empty()) return std::nullopt;
    MaskCount& count = scores_.masks;
    ++count.images;
    const std::vector<fs::path> paths = layout_.masks(image.name);
    if (paths.empty()) {
      ++count.missing["without one"];
      return std::nullopt;
    }
    try {
      const torch::Tensor mask =
          read_masks(paths, folder_.entry(index).info, options_.images.data.max_pixels);
      const bool has_defect = mask.any().item<bool>();
      ++(has_defect ? count.found : count.missing["empty"]);
      return has_defect ? std::optional(mask) : std::nullopt;
    } catch (const std::runtime_error& error) {
      const bool differs_in_size = dynamic_cast<const MaskSizeError*>(&error) != nullptr;
      ++count.missing[differs_in_size ? "of another size" : "not readable"];
      folder_.warn(fmt::format("mask {}{}: {}; the image does not count for pixel AUROC and PRO",
                               in_quotes(paths[0]), paths.size() > 1 ? " and others" : "",
                               printable(error.what())));
    }
    return std::nullopt;
  }

  const ScoreOptions& options_;
  const Callbacks& callbacks_;
  InspectionFolder layout_;
  ModelFolder folder_;
  std::optional<ScoreFiles> files_;
  std::optional<ScoreReport> report_;
  Grouping grouping_;
  Scores scores_;
};

}  // namespace

void ScoreOptions::validate() const {
  images.validate();
  require_false_alarms(fpr);
}

ScoreResult Inspector::score(const ScoreOptions& options, const Callbacks& callbacks) const {
  return FolderScoring(model_, size_, options, callbacks).run(*this);
}

ScoreResult score_folder(const Model& model, const CalibrateOptions& calibration,
                         const ScoreOptions& options, const Callbacks& callbacks) {
  std::optional<FolderScoring> scoring;
  const auto prepare = [&](const Model& computing, Size size) {
    scoring.emplace(computing, size, options, callbacks);
  };
  const Inspector inspector = inspector_for(model, calibration, callbacks, prepare);
  return scoring->run(inspector);
}

}  // namespace convae
