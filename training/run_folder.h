#pragma once

#include "convae/data/folder.h"
#include "convae/metrics/image_quality.h"
#include "convae/training/image_list.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
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

/// A point of the curve of a learning rate range test.
struct RatePoint {
  double rate = 0;
  double loss = 0;  ///< mean of the step's images
};

/// The columns of metrics.csv after epoch and step.
struct MetricsColumn {
  const char* name;
  double MetricsRow::*value;
};
inline constexpr MetricsColumn kMetricsColumns[] = {{"lr", &MetricsRow::lr},
                                                    {"train_loss", &MetricsRow::train_loss},
                                                    {"val_loss", &MetricsRow::val_loss},
                                                    {"val_mse", &MetricsRow::val_mse},
                                                    {"val_psnr", &MetricsRow::val_psnr},
                                                    {"val_ssim", &MetricsRow::val_ssim},
                                                    {"images_per_s", &MetricsRow::images_per_s},
                                                    {"seconds", &MetricsRow::seconds}};

/// Images with a longer side are shrunk to this in sample pictures.
inline constexpr std::int64_t kMaxSampleSide = 1024;

/// A row of samples/samples.csv: an image in one of the pictures there. The rows of a picture are
/// its images from the top.
struct SampleRow {
  std::string picture;     ///< "epoch_0001", "best" or "worst"
  std::int64_t epoch = 0;  ///< whose weights made it
  ImageQuality image;
};

/// An image's fields in every table: path,width,height,mse,psnr,ssim.
std::string csv_fields(const ImageQuality& image);

/// What validation.csv holds: all validation images, after the latest epoch with sample pictures.
struct ValidationTable {
  std::int64_t epoch = 0;  ///< 0: there is none
  std::vector<ImageQuality> images;
};

/// The folder of one run and the names in it. Every file appears complete or not at all.
class RunFolder {
public:
  /// Makes `output`/`name`, or where that exists name-2, name-3 …, if it may count up. Throws
  /// std::runtime_error naming the path and the reason.
  static RunFolder create(const std::filesystem::path& output, const std::string& name,
                          bool counts_up = true);

  /// Opens an existing one. Throws std::runtime_error if it is none, or if another process works on
  /// it: a folder is locked as long as its RunFolder lives. The lock is the system's (flock), so
  /// that of a process that was killed is gone with it.
  static RunFolder open(const std::filesystem::path& path);

  /// Removes one whose process was killed before it saved anything, and says whether it was one:
  /// all that is in it comes before the first checkpoint. Throws std::runtime_error if another
  /// process is beginning it.
  static bool remove_unbegun(const std::filesystem::path& path);

  /// One that another process works on: to know its name and to read in it, without the lock.
  static RunFolder watch(const std::filesystem::path& path) { return {path, nullptr}; }

  /// False where the folder was moved or removed since it was opened, also where another has taken
  /// its place.
  bool is_in_place() const;
  /// Throws std::runtime_error where it is not.
  void require_in_place() const;

  /// Points `latest` beside the folder at it.
  void make_latest() const;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config() const { return path_ / "config.toml"; }
  std::filesystem::path log() const { return path_ / "train.log"; }
  std::filesystem::path last() const { return weights("last"); }
  std::filesystem::path best() const { return weights("best"); }
  std::filesystem::path epoch_weights(std::int64_t epoch) const;
  std::filesystem::path metrics() const { return path_ / "metrics.csv"; }
  /// Drawn defects, each beside its label; only where the run trains on such.
  std::filesystem::path defects() const { return sample("defects"); }
  std::filesystem::path report() const { return path_ / "report.html"; }
  /// A sample picture's file: by its name in samples.csv, or that of an epoch.
  std::filesystem::path sample(const std::string& picture) const;
  std::filesystem::path sample(std::int64_t epoch) const { return sample(sample_name(epoch)); }
  /// The picture of an epoch: "epoch_0001".
  static std::string sample_name(std::int64_t epoch);

  /// Adds a row to metrics.csv, in place of a row of the same or a later epoch.
  void add_metrics(const MetricsRow& row);
  /// Writes the rows that found no room before.
  void catch_up();
  /// Where metrics.csv has lines that cannot be read, as after a spreadsheet saved it with
  /// semicolons, renames it and returns its new name; else returns nothing. cut_metrics() writes
  /// the others anew.
  std::filesystem::path put_aside_metrics() const;
  /// Cuts the rows past `epochs` completed epochs, also in samples.csv, and removes a
  /// validation.csv of later ones: they belong to work that was lost.
  void cut_metrics(std::int64_t epochs);
  /// The step that the last row is of; 0 without rows.
  std::int64_t measured_step() const { return rows_.empty() ? 0 : rows_.back().step; }

  /// Removes such rows of samples/samples.csv, and their pictures.
  void remove_samples(const std::function<bool(const SampleRow&)>& is_old) const;
  /// Writes samples/`picture`.png and its rows in samples/samples.csv.
  void write_sample(const std::string& picture, std::int64_t epoch,
                    std::span<const std::uint8_t> png, const std::vector<ImageQuality>& images);

  /// Writes validation.csv (epoch,path,width,height,mse,psnr,ssim).
  void write_validation(const ValidationTable& table) const;
  /// Removes it, and the pictures of the best and the worst.
  void remove_validation() const;

  /// Adds a line to commands.txt: what was called to make this run, or to go on with it.
  void add_command(const std::string& command) const;

  /// What the files hold; empty where there is none. Lines that are no rows are passed over. Names
  /// are as printable() shows them. Throw std::runtime_error where a file cannot be read.
  std::vector<MetricsRow> read_metrics() const;
  std::vector<SampleRow> read_samples() const;
  ValidationTable read_validation() const;
  std::vector<std::string> read_commands() const;

  /// Writes lr_test.csv (lr,loss), the curve by which `lr auto` chose.
  void write_rate_test(const std::vector<RatePoint>& curve) const;
  std::vector<RatePoint> read_rate_test() const;

  /// Writes images.csv (path,set), what the run is trained and validated on.
  /// validation: may be null.
  void write_images(const ImageDataset& training, const ImageDataset* validation) const;
  /// What it holds; nothing where it is not there.
  ImageList read_images() const;

  /// Writes skipped.csv (path,reason).
  void write_skipped(const std::vector<SkippedFile>& skipped) const;

private:
  /// Reads the rows there are.
  RunFolder(std::filesystem::path path, std::shared_ptr<const Descriptor> lock);
  std::filesystem::path weights(const std::string& name) const;
  void write_metrics() const;
  void write_samples(const std::vector<SampleRow>& samples) const;
  std::filesystem::path sample_table() const { return path_ / "samples" / "samples.csv"; }
  std::filesystem::path validation() const { return path_ / "validation.csv"; }
  std::filesystem::path rate_test() const { return path_ / "lr_test.csv"; }
  std::filesystem::path image_list() const { return path_ / "images.csv"; }
  std::filesystem::path commands() const { return path_ / "commands.txt"; }

  std::filesystem::path path_;
  std::shared_ptr<const Descriptor> lock_;
  std::vector<MetricsRow> rows_;
  bool is_behind_ = false;  // the last of the rows could not be written
};

}  // namespace convae
