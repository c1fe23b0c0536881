#pragma once

#include "convae/core/errors.h"
#include "convae/data/options.h"
#include "convae/data/pack.h"
#include "convae/exporting/options.h"
#include "convae/inference/options.h"
#include "convae/models/options.h"
#include "convae/training/options.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace convae::app {

enum class LogLevel { debug, info, warning, error };
constexpr auto names(LogLevel) {
  return std::to_array<Name<LogLevel>>({{LogLevel::debug, "debug"},
                                        {LogLevel::info, "info"},
                                        {LogLevel::warning, "warning"},
                                        {LogLevel::error, "error"}});
}

/// The [run] table: the library's options and what the program prints.
struct RunOptions : convae::RunOptions {
  LogLevel log_level = LogLevel::info;
  bool quiet = false;  ///< only warnings, errors and the results
};

/// What belongs to one call of a command, not to a configuration.
struct CallOptions {
  std::string config;      ///< file of options
  std::string resume;      ///< run folder to go on with
  std::string init;        ///< file of weights to start from
  std::string checkpoint;  ///< run folder or checkpoint file to use
  std::string latents;     ///< .npy file to decode
  std::string input;       ///< CxHxW for shapes and bench, HxW for export
  std::string train_data;  ///< folder that references are fitted to; empty: the run's own
  WriteAs format = WriteAs::png;
  std::optional<ExportFormat> export_format;
  Part part = Part::autoencoder;
  Pooling pool = Pooling::none;
  std::string good;                       ///< folder of good images to calibrate scores on
  Precision precision = Precision::fp32;  ///< of a trained network
  double fpr = 0.01;                      ///< share of good images that may be called anomalous
  std::int64_t rounds = 15;               ///< of a benchmark
  std::int64_t count = 16;                ///< images to draw
  std::int64_t steps = 8;                 ///< pictures of an interpolation, both ends included
  std::optional<std::int64_t> tile;       ///< side of tiles; 0: automatic; see FolderOptions::tile
  bool grid = false;
  bool error_map = false;
  bool heat_maps = true;
  bool fail_on_anomaly = false;
  bool watch = false;       ///< score what comes into the folder, too
  bool from_stdin = false;  ///< score the paths that come on the standard input
  std::int64_t shard_size = PackOptions::kDefaultShardBytes;
  std::int64_t folds = 0;  ///< deals that a recipe is judged by; 0: none
  bool overwrite = false;
  bool json = false;
};

/// The levels as they are written; model.levels holds what they mean.
struct LevelOptions {
  std::string list = default_list();  ///< for parse_levels()
  LevelSpec defaults;                 ///< for what a level leaves out

  /// "32,64,…": the channels of the default model's levels.
  static std::string default_list() {
    std::string text;
    for (const LevelSpec& level : ModelOptions{}.levels) {
      text += (text.empty() ? "" : ",") + std::to_string(level.channels);
    }
    return text;
  }
};

struct Options {
  DataOptions data;
  LevelOptions levels;
  ModelOptions model;
  TrainOptions train;
  RunOptions run;
  CallOptions call;
};

}  // namespace convae::app
