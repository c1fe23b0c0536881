#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"
#include "convae/inspection/results.h"

#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CONVAE_API convae {

class AnomalyScorer;

/// What to learn from.
struct CalibrateOptions {
  /// How good images are read. Used are data.data (a folder of them, all unknown to the network;
  /// empty: the images of the model's run, split as in training), data.include, exclude, workers,
  /// skip_bad and max_pixels. Images are looked at one by one.
  FolderOptions good;
  /// At which size the network sees images; {0, 0}: each at its own; nullopt: as in training.
  std::optional<Size> size = {};
  /// Which images belong together, see Grouping; "": each is alone; nullopt: as in training.
  std::optional<std::string> group_regex = {};

  /// `good` with data.size and data.group_regex, as in training where they are not given.
  /// Throws OptionError and CheckpointError.
  FolderOptions complete(const Model& model) const;
};

/// What to score, and where results go.
struct ScoreOptions {
  /// Used are data.data (the folder, see InspectionFolder), data.include, exclude, images, workers,
  /// skip_bad and max_pixels, and tile. Images are looked at one by one.
  FolderOptions images;
  std::filesystem::path output;  ///< folder for scores.csv, summary.json, the report and maps;
                                 ///< empty: none
  bool overwrite = false;        ///< replace files that exist
  bool report = true;            ///< also write report.html, a page of verdicts and pictures
  bool heat_maps = true;         ///< also write maps, over the image to overlay/, alone to heat/
  double fpr = 0.01;             ///< share of good images that may be called anomalous, 0 … 1
  std::uint64_t seed = 0;        ///< of the bootstrap that intervals come from

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;
};

/// How anomalous one image is, and where.
struct ImageScore {
  double score = 0;
  torch::Tensor map;  ///< (H, W) float of the image's size: 1 is as much as the strongest pixels of
                      ///< good images have
};

/// Learns from good images what is usual, and says how anomalous others are; see
/// docs/inspection.md. Several threads may score with one inspector; copies share what was learnt.
///
///     Inspector inspector = Inspector::calibrate(load("runs/latest"));
///     bool anomalous = inspector.score(image).score > inspector.threshold(0.01);
class Inspector {
public:
  /// Looks at the good images twice, and at some with drawn faults. Throws OptionError,
  /// CheckpointError where the model's run cannot be read, std::runtime_error where there are too
  /// few good images, and Interrupted.
  static Inspector calibrate(const Model& model, const CalibrateOptions& options = {},
                             const Callbacks& callbacks = {});

  /// One that was saved for the same weights; nullopt where it was for others, or by a version that
  /// looked at other things. Throws
  /// SafetensorsError for a file that is damaged or no inspector's, std::runtime_error where it
  /// cannot be read.
  static std::optional<Inspector> load(const Model& model, const std::filesystem::path& file);
  /// All that scoring needs, and the sorted scores of the good images. Replaces an older file
  /// atomically. Throws std::runtime_error where it cannot be written.
  void save(const std::filesystem::path& file) const;

  /// Scores a folder, and writes the results where options.output says so. Throws OptionError, what
  /// find_images() throws, std::runtime_error where a file exists or cannot be written, and
  /// Interrupted, without scores.csv then.
  ScoreResult score(const ScoreOptions& options, const Callbacks& callbacks = {}) const;

  /// image: (C, H, W) of a type that Model takes, with the model's channels. The map, which takes
  /// time, is made where the score is above `map_above`, and undefined elsewhere. Throws
  /// std::invalid_argument for images of other types and values that are not finite.
  ImageScore score(const torch::Tensor& image,
                   double map_above = -std::numeric_limits<double>::infinity()) const;
  /// The same for an image that decode_image() placed in the model's value range.
  ImageScore score_placed(const torch::Tensor& image, double map_above) const;

  /// The score that at most a share `fpr` of unseen good images will exceed. Throws OptionError
  /// unless it is between 0 and 1.
  double threshold(double fpr = 0.01) const { return calibration_.thresholds(fpr)[kNetwork]; }

  const Model& model() const { return model_; }
  Size size() const { return size_; }  ///< at which the network sees images; {0, 0}: their own
  const std::string& group_regex() const { return group_regex_; }
  const Calibration& calibration() const { return calibration_; }
  /// The good images it was calibrated on: data, absolute, include and exclude. data is empty for
  /// those of the run, and where an older version did not say.
  const DataOptions& good() const { return good_; }
  const AnomalyScorer& scorer() const { return *scorer_; }

private:
  Inspector(const Model& model, Size size, std::string group_regex,
            std::shared_ptr<AnomalyScorer> scorer);

  Model model_;
  Size size_;
  std::string group_regex_;
  std::shared_ptr<AnomalyScorer> scorer_;
  Calibration calibration_;
  DataOptions good_;
};

/// Where a run keeps what was learnt of good images; "" for a model without a run.
std::filesystem::path inspector_file(const std::filesystem::path& run);

/// What the model's run keeps. Throws OptionError for a model that was not loaded from a run,
/// std::runtime_error where there is none, or one that load() cannot use, and what it throws.
Inspector inspector_of_run(const Model& model);

/// Calibrates and keeps the result in the model's run: `convae calibrate`. Throws OptionError for a
/// model that was not loaded from a run, and what calibrate() and save() throw.
Inspector calibrate_run(const Model& model, const CalibrateOptions& options,
                        const Callbacks& callbacks = {});

/// Scores with what the model's run keeps, and calibrates where there is none yet or load() has no
/// use for it: `convae score`. For another grouping it calibrates as the run was calibrated, and
/// keeps nothing; neither with good images named, or without a run. What is wrong with the folder
/// or with the results' names is found before the first image is looked at. Throws what calibrate()
/// and score() throw.
ScoreResult score_folder(const Model& model, const CalibrateOptions& calibration,
                         const ScoreOptions& options, const Callbacks& callbacks = {});

}  // namespace convae
