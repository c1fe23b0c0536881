#pragma once

#include "data/image_folder.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace convae {

/// A row of metrics.csv. Values that do not exist are NaN and stay empty in the file.
struct MetricsRow {
  std::int64_t epoch = 0;  ///< from 1
  std::int64_t step = 0;   ///< optimizer steps since the run began
  double lr = 0;           ///< of the epoch's last step
  double train_loss = 0;
  double val_loss = 0;
  double val_mse = 0;
  double val_psnr = 0;
  double val_ssim = 0;
  double images_per_s = 0;  ///< training images over training wall time, loading included
  double seconds = 0;       ///< wall time of the epoch, validation included
};

/// The folder of one run and the names in it. Every file appears complete or not at all.
class RunFolder {
public:
  /// Makes `output`/`name`, or name-2, name-3 … where that exists. Throws std::runtime_error naming
  /// the path and the reason.
  static RunFolder create(const std::filesystem::path& output, const std::string& name);

  /// Opens an existing one. Throws std::runtime_error if it is none, or if another process works on
  /// it: a folder is locked as long as its RunFolder lives. The lock is the system's (flock), so
  /// that of a process that was killed is gone with it.
  static RunFolder open(const std::filesystem::path& path);

  /// Points `latest` beside the folder at it.
  void make_latest() const;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config() const { return path_ / "config.toml"; }
  std::filesystem::path log() const { return path_ / "train.log"; }
  std::filesystem::path last() const { return weights("last"); }
  std::filesystem::path best() const { return weights("best"); }
  std::filesystem::path epoch_weights(std::int64_t epoch) const;
  std::filesystem::path sample(std::int64_t epoch) const;

  /// Adds a row to metrics.csv, in place of a row of the same or a later epoch.
  void add_metrics(const MetricsRow& row);
  /// Cuts the rows past `epochs` completed epochs: they belong to work that was lost.
  void cut_metrics(std::int64_t epochs);

  /// Writes skipped.csv (path,reason).
  void write_skipped(const std::vector<SkippedFile>& skipped) const;

private:
  /// Takes the lock and reads the rows there are.
  explicit RunFolder(std::filesystem::path path);
  std::filesystem::path weights(const std::string& name) const;
  std::filesystem::path metrics() const { return path_ / "metrics.csv"; }

  std::filesystem::path path_;
  std::shared_ptr<const int> lock_;           // descriptor; the last copy closes it
  std::map<std::int64_t, std::string> rows_;  // of metrics.csv, by epoch: a row that could not be
                                              // written is written with the next
};

/// A field of a CSV file after RFC 4180: quoted where it holds a comma, a quote or a line break.
/// Control characters and bytes that are not UTF-8 are escaped first, as printable() does.
std::string csv_field(const std::string& text);

/// A number for a CSV file: the shortest text that reads back as the same double; empty for NaN.
std::string csv_number(double value);

}  // namespace convae
