#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/score_report.h"
#include "convae/app/train_setup.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/grouping.h"
#include "convae/data/image_writer.h"
#include "convae/inspection/good_images.h"
#include "convae/inspection/heat_map.h"
#include "convae/inspection/scorer.h"
#include "convae/inspection/scoring.h"
#include "convae/inspection/test_set.h"
#include "convae/metrics/statistics.h"
#include "convae/training/run_folder.h"

#include <torch/nn/functional/upsampling.h>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include <cmath>
#include <cstdio>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

/// Heat maps are full where there is so many times what the strongest pixels of good images have.
constexpr double kFullHeat = 2;
/// Residuals that the noise is learnt from: more change nothing that can be seen.
constexpr std::int64_t kNoiseImages = 100;

/// The options of the run that a checkpoint is of.
Options run_options(const Model& model) {
  Options run = saved_options(model.info(), model.path().string());
  run.data.skip_bad = true;
  return run;
}

/// What is not given is as it was in training: images of another size look different to a network,
/// and parts are told apart as they were for the split.
Options with_settings_of_run(const CommandLine& line, const Options& run) {
  Options options = line.options;
  if (!line.has("size")) options.data.size = run.data.size;
  if (!line.has("group-regex")) options.data.group_regex = run.data.group_regex;
  return options;
}

/// (H, W) float → the size wanted.
torch::Tensor resize_map(const torch::Tensor& map, std::int64_t height, std::int64_t width) {
  if (map.size(0) == height && map.size(1) == width) return map;
  namespace F = torch::nn::functional;
  return F::interpolate(map.view({1, 1, map.size(0), map.size(1)}),
                        F::InterpolateFuncOptions()
                            .size(std::vector<std::int64_t>{height, width})
                            .mode(torch::kBilinear)
                            .align_corners(false))
      .view({height, width});
}

class ScoreJob {
public:
  ScoreJob(Options options, const Options& run, Model model, torch::Device device)
      : options_(std::move(options)),
        model_(std::move(model)),
        device_(device),
        folder_(options_.data.data),
        good_(find_good_images(options_, run, model_.options())),
        output_(options_.run.output, options_.call.overwrite),
        scorer_(kViews, static_cast<int>(good_.fold_count)) {}

  int run() {
    std::vector<ImageEntry> entries = list();
    reserve_names(entries);
    stop_in_order();
    if (!learn()) return stop("the good images");
    set_thresholds();
    Inference inference(options_, std::move(entries), model_, device_);
    if (!score(inference)) return stop("the images");
    scores_.skipped += static_cast<std::int64_t>(inference.dataset.bad_files().size());
    if (scores_.images.empty()) throw std::runtime_error("none of the images could be read");
    return finish();
  }

private:
  std::vector<ImageEntry> list() {
    FolderScan scan = scan_headers(list_images(folder_.images()), options_.data.max_pixels,
                                   worker_count(options_.data.workers));
    for (ImageEntry& entry : scan.entries) entry.file.name.insert(0, folder_.prefix());
    for (SkippedFile& file : scan.skipped) file.name.insert(0, folder_.prefix());
    std::vector<ImageEntry> usable =
        usable_images(scan, options_.data.data, options_, model_.options());
    scores_.skipped = static_cast<std::int64_t>(scan.skipped.size());
    const Grouping grouping(options_.data.group_regex);
    const auto strays = std::count_if(usable.begin(), usable.end(), [&](const ImageEntry& entry) {
      return grouping.groups() && !grouping.matches(entry.file.name);
    });
    if (strays > 0) {
      spdlog::warn("--group-regex matches {} of {} images not; each is a group of its own", strays,
                   usable.size());
    }
    return usable;
  }

  /// Names of results, all before the first is written.
  void reserve_names(const std::vector<ImageEntry>& entries) {
    output_.reserve_exact("scores.csv");
    output_.reserve_exact("summary.json");
    names_.resize(entries.size());
    if (!options_.call.heat_maps) return;
    std::vector<std::string> inputs;
    inputs.reserve(entries.size());
    for (const ImageEntry& entry : entries) inputs.push_back(entry.file.name);
    for (const char* folder : {"overlay", "heat"}) output_.expect(inputs, folder);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      names_[i].overlay = output_.reserve(inputs[i], ".png", "overlay");
      names_[i].heat = output_.reserve(inputs[i], ".png", "heat");
    }
  }

  /// All passes over good images; false where the user stopped.
  bool learn() {
    Inference held_out(options_, good_.held_out, model_, device_);
    std::optional<Inference> training;
    if (!good_.training.empty()) training.emplace(options_, good_.training, model_, device_);
    learn_noise(training ? *training : held_out);
    if (training) learn_locations(*training, /*held_out=*/false);
    learn_locations(held_out, /*held_out=*/true);
    if (training) calibrate(*training, /*held_out=*/false);
    calibrate(held_out, /*held_out=*/true);
    if (stop_signal() != 0) return false;
    scorer_.finish();
    scores_.training_images = training ? training->dataset.size() : 0;
    scores_.good_groups = good_.groups;
    return true;
  }

  void learn_noise(Inference& inference) {
    std::int64_t seen = 0;
    for_each_leftovers(inference, options_, "noise", [&](const Leftovers& left) {
      scorer_.learn_noise(left.views);
      return ++seen < kNoiseImages && stop_signal() == 0;
    });
  }

  int fold_of(const Leftovers& left) const {
    return good_.folds[static_cast<std::size_t>(left.index)];
  }

  void learn_locations(Inference& inference, bool held_out) {
    for_each_leftovers(inference, options_, "good images", [&](const Leftovers& left) {
      const int fold = held_out ? fold_of(left) : AnomalyScorer::kTrainingFold;
      scorer_.learn_locations(left.views, fold);
      return stop_signal() == 0;
    });
  }

  void calibrate(Inference& inference, bool held_out) {
    for_each_leftovers(inference, options_, "calibration", [&](const Leftovers& left) {
      scorer_.calibrate(left.views, held_out ? fold_of(left) : AnomalyScorer::kTrainingFold);
      if (held_out) {
        scores_.good_scores[kMeanError].push_back(left.mean_error);
        scores_.good_scores[kArea].push_back(area(inference, left));
      }
      return stop_signal() == 0;
    });
  }

  void set_thresholds() {
    for (const AnomalyScorer::Scores& good : scorer_.good_scores()) {
      scores_.good_scores[kNetwork].push_back(good.all);
      scores_.good_scores[kResidualAlone].push_back(good.view[kResidual]);
      scores_.good_scores[kNoNetwork].push_back(good.view[kImage]);
    }
    scores_.rate = options_.call.fpr;
    scores_.seed = options_.train.seed;
    for (std::size_t way = 0; way < kWays; ++way) {
      scores_.thresholds[way] = threshold_for_rate(scores_.good_scores[way], scores_.rate);
    }
  }

  static double area(const Inference& inference, const Leftovers& left) {
    const ImageInfo& info = inference.dataset.entry(left.index).info;
    return static_cast<double>(info.height) * static_cast<double>(info.width);
  }

  /// False where the user stopped.
  bool score(Inference& inference) {
    ImageWriter writer(inference.workers);
    const Grouping grouping(options_.data.group_regex);
    for_each_leftovers(inference, options_, "score", [&](const Leftovers& left) {
      ScoredImage image;
      image.name = inference.dataset.entry(left.index).file.name;
      image.label = folder_.label(image.name);
      image.group = grouping.of(image.name);
      const std::optional<torch::Tensor> mask = mask_of(image, left.pixels);
      AnomalyScorer::Maps maps;
      const bool with_maps = options_.call.heat_maps || mask;
      const AnomalyScorer::Scores found =
          with_maps ? scorer_.score(left.views, maps) : scorer_.score(left.views);
      image.scores = {found.all, found.view[kResidual], found.view[kImage], left.mean_error,
                      area(inference, left)};
      if (mask) {
        add_pixels(kNetwork, image.label, maps.all, *mask, left.pixels);
        add_pixels(kResidualAlone, image.label, maps.view[kResidual], *mask, left.pixels);
        add_pixels(kNoNetwork, image.label, maps.view[kImage], *mask, left.pixels);
      }
      if (options_.call.heat_maps) write_heat(writer, left, maps.all);
      scores_.images.push_back(std::move(image));
      return stop_signal() == 0;
    });
    writer.finish();
    return stop_signal() == 0;
  }

  /// (H, W) bool; an undefined tensor for a good image; nullopt where nothing is known of pixels.
  std::optional<torch::Tensor> mask_of(const ScoredImage& image,
                                       const torch::Tensor& pixels) const {
    if (image.label == kGoodLabel) return torch::Tensor();
    const auto path = folder_.mask(image.name);
    if (!path) return std::nullopt;
    try {
      const torch::Tensor mask =
          decode_image(read_file(*path), /*channels=*/1, options_.data.max_pixels)[0];
      if (mask.sizes() != pixels[0].sizes()) {
        throw ImageError("its size is not its image's");
      }
      return mask.to(torch::kInt) > (mask.scalar_type() == torch::kUInt16 ? 32767 : 127);
    } catch (const std::runtime_error& error) {
      spdlog::warn("mask '{}': {}; the image does not count for pixel AUROC and PRO",
                   printable(path->string()), printable(error.what()));
      return std::nullopt;
    }
  }

  void add_pixels(Way way, const std::string& label, const torch::Tensor& map,
                  const torch::Tensor& mask, const torch::Tensor& pixels) {
    scores_.pixels[way][label].add(resize_map(map, pixels.size(1), pixels.size(2)), mask);
  }

  void write_heat(ImageWriter& writer, const Leftovers& left, const torch::Tensor& map) {
    const torch::Tensor own = resize_map(map, left.pixels.size(1), left.pixels.size(2));
    const HeatNames& names = names_[static_cast<std::size_t>(left.index)];
    writer.write(output_.prepare(names.overlay), heat_over_image(left.pixels, own, kFullHeat),
                 ImageFormat::png);
    writer.write(output_.prepare(names.heat), heat_picture(own, kFullHeat), ImageFormat::png);
  }

  int finish() {
    std::sort(scores_.images.begin(), scores_.images.end(),
              [](const ScoredImage& a, const ScoredImage& b) { return a.name < b.name; });
    const ScoreReport report(scores_);
    nlohmann::ordered_json json = report.json();
    if (options_.call.heat_maps) json["heat_full_scale"] = kFullHeat;
    write_table();
    write_file(output_.prepare("summary.json"), json.dump(2) + "\n");
    if (options_.call.json) {
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{}results in {}\n", report.table(), printable(output_.root().string()));
    }
    for (const std::string& warning : report.warnings()) spdlog::warn("{}", warning);
    const bool found = json["anomalous_images"].get<std::int64_t>() > 0;
    return options_.call.fail_on_anomaly && found ? kAnomaly : kDone;
  }

  void write_table() {
    std::string text = "path,label,score,anomalous\n";
    for (const ScoredImage& image : scores_.images) {
      text += csv_field(image.name) + "," + csv_field(image.label) + "," +
              csv_number(image.scores[kNetwork]) + "," + (scores_.anomalous(image) ? "1" : "0") +
              "\n";
    }
    write_file(output_.prepare("scores.csv"), text);
  }

  static int stop(const char* during) {
    spdlog::warn("stopped while looking at {}; no scores.csv was written", during);
    return 128 + stop_signal();
  }

  struct HeatNames {
    std::string overlay, heat;
  };

  Options options_;
  Model model_;
  torch::Device device_;
  InspectionFolder folder_;
  GoodImages good_;
  OutputFolder output_;
  AnomalyScorer scorer_;
  std::vector<HeatNames> names_;
  Scores scores_;
};

}  // namespace

int run_score(const CommandLine& line) {
  check_inference_options(line.options);
  require_given(line.options.run.output, "output", "-o scores");
  const double rate = line.options.call.fpr;
  if (rate <= 0 || rate >= 1) {
    throw UsageError("--fpr '" + csv_number(rate) +
                     "': expected a share between 0 and 1, such as 0.01");
  }
  const torch::Device device = choose_device(line.options.run.device);
  use_threads(line.options.run.threads);
  Model model = open_checkpoint(line.options, device);
  const Options run = run_options(model);
  return ScoreJob(with_settings_of_run(line, run), run, std::move(model), device).run();
}

}  // namespace convae::app
