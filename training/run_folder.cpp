#include "convae/training/run_folder.h"

#include "convae/core/csv.h"
#include "convae/core/files.h"
#include "convae/core/folder_lock.h"
#include "convae/core/output_folder.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

ImageQuality read_image(const CsvReader& table) {
  return {table.name("path"),
          {table.integer("height", 1), table.integer("width", 1)},
          table.number("mse"),
          table.number("psnr"),
          table.number("ssim")};
}

/// The rows of a table, each as `read_row` makes it of the reader; where there is no file, none.
template <typename ReadRow>
auto read_table(const fs::path& path, const ReadRow& read_row) {
  std::vector<decltype(read_row(std::declval<const CsvReader&>()))> rows;
  if (!is_there(path)) return rows;
  CsvReader table(path);
  while (table.next()) {
    try {
      rows.push_back(read_row(table));
    } catch (const std::runtime_error&) {
      continue;  // no row of ours
    }
  }
  return rows;
}

/// Nobody else is writing, since the folder is locked.
void remove_unfinished(const fs::path& run) {
  for (const fs::path& folder : {run, run / "weights", run / "samples"}) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (is_unfinished(entry.path())) fs::remove(entry.path(), error);
    }
  }
}

std::shared_ptr<const Descriptor> lock_run(const fs::path& path) {
  auto lock = lock_folder(path);
  if (lock) return lock;
  throw std::runtime_error("another process is working on the run " + in_quotes(path) +
                           "; wait for it or stop it first");
}

}  // namespace

std::string csv_fields(const ImageQuality& image) {
  return fmt::format("{},{},{},{},{},{}", csv_field(image.name), image.size.w, image.size.h,
                     csv_number(image.mse), csv_number(image.psnr), csv_number(image.ssim));
}

RunFolder::RunFolder(fs::path path, std::shared_ptr<const Descriptor> lock)
    : path_(std::move(path)), lock_(std::move(lock)), rows_(read_metrics()) {}

RunFolder RunFolder::create(const fs::path& output, const std::string& name, bool counts_up) {
  std::error_code error;
  fs::create_directories(output, error);
  if (error) fail_to_create(output, error);
  fs::path path = output / name;
  for (int number = 2; !fs::create_directory(path, error); ++number) {
    std::error_code none;
    if (error && !fs::exists(fs::symlink_status(path, none))) fail_to_create(path, error);
    if (!counts_up) {
      throw std::runtime_error("another process has begun the run " + in_quotes(path) +
                               " meanwhile, or it was there before; wait for it, stop it or choose "
                               "another name");
    }
    const std::string suffix = "-" + std::to_string(number);
    std::size_t length = std::min(name.size(), kMaxNameBytes - suffix.size());
    while (length > 0 && (name[length] & 0xC0) == 0x80) --length;  // not within a UTF-8 character
    path = output / (name.substr(0, length) + suffix);
  }
  for (const char* part : {"weights", "samples"}) {
    fs::create_directory(path / part, error);
    if (!error) continue;
    std::error_code ignored;
    fs::remove_all(path, ignored);
    fail_to_create(path / part, error);
  }
  return {path, lock_run(path)};
}

RunFolder RunFolder::open(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path / "weights", error)) {
    throw std::runtime_error(in_quotes(path) + " is not a run folder: it has no folder 'weights'");
  }
  // `latest` may move on while the run goes on.
  const fs::path resolved = fs::canonical(path, error);
  const fs::path& place = error ? path : resolved;
  RunFolder run(place, lock_run(place));
  fs::create_directory(run.path_ / "samples", error);
  remove_unfinished(run.path_);
  return run;
}

bool RunFolder::remove_unbegun(const fs::path& path) {
  std::error_code error;
  if (fs::is_symlink(path, error)) return false;  // a link is the user's
  if (!fs::is_directory(path / "weights", error) && !fs::is_empty(path, error)) return false;
  const auto lock = lock_run(path);
  const std::set<std::string> before_the_first = {"commands.txt", "config.toml", "lr_test.csv",
                                                  "samples",      "skipped.csv", "train.log",
                                                  "weights"};
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    const std::string name = entry.path().lexically_relative(path).string();
    if (!before_the_first.contains(name) && !is_unfinished(entry.path())) return false;
  }
  fs::remove_all(path);
  return true;
}

bool RunFolder::is_in_place() const {
  return is_there(path_ / "weights") && (!lock_ || file_id(path_) == file_id(lock_->get()));
}

void RunFolder::require_in_place() const {
  if (is_in_place()) return;
  throw std::runtime_error("the run folder " + in_quotes(path_) +
                           " is gone; there is nowhere to save to");
}

void RunFolder::make_latest() const {
  const fs::path link = path_.parent_path() / "latest";
  std::error_code error;
  if (fs::exists(fs::symlink_status(link, error)) && !fs::is_symlink(link, error)) return;
  // Made beside and renamed, so that it always leads somewhere.
  const fs::path temporary =
      path_.parent_path() / (".latest-" + path_.filename().string()).substr(0, kMaxNameBytes);
  fs::remove(temporary, error);
  fs::create_symlink(path_.filename(), temporary, error);
  if (!error) fs::rename(temporary, link, error);
  // A file system without links has no `latest`; the run itself does not need it.
  if (error) fs::remove(temporary, error);
}

fs::path RunFolder::weights(const std::string& name) const {
  return path_ / "weights" / (name + ".safetensors");
}

fs::path RunFolder::epoch_weights(std::int64_t epoch) const { return weights(sample_name(epoch)); }

fs::path RunFolder::sample(const std::string& picture) const {
  return path_ / "samples" / (picture + ".png");
}

std::string RunFolder::sample_name(std::int64_t epoch) { return fmt::format("epoch_{:04}", epoch); }

void RunFolder::add_metrics(const MetricsRow& row) {
  std::erase_if(rows_, [&](const MetricsRow& old) { return old.epoch >= row.epoch; });
  rows_.push_back(row);
  is_behind_ = true;
  catch_up();
}

void RunFolder::catch_up() {
  if (!is_behind_) return;
  write_metrics();
  is_behind_ = false;
}

void RunFolder::write_metrics() const {
  std::string text = "epoch,step";
  for (const auto& [name, value] : kMetricsColumns) text += fmt::format(",{}", name);
  for (const MetricsRow& row : rows_) {
    text += fmt::format("\n{},{}", row.epoch, row.step);
    for (const auto& [name, value] : kMetricsColumns) text += "," + csv_number(row.*value);
  }
  write_file(metrics(), text + "\n");
}

fs::path RunFolder::put_aside_metrics() const {
  if (!is_there(metrics())) return {};
  std::size_t lines = 0;
  for (CsvReader table(metrics()); table.next();) ++lines;
  if (lines == rows_.size()) return {};
  fs::path aside = metrics().string() + ".old";
  for (int number = 2; is_there(aside); ++number) {
    aside = metrics().string() + ".old-" + std::to_string(number);
  }
  fs::rename(metrics(), aside);
  return aside;
}

void RunFolder::cut_metrics(std::int64_t epochs) {
  if (is_there(metrics()) || !rows_.empty()) {
    std::erase_if(rows_, [&](const MetricsRow& row) { return row.epoch > epochs; });
    write_metrics();
  }
  remove_samples([&](const SampleRow& row) { return row.epoch > epochs; });
  if (read_validation().epoch > epochs) remove_validation();
}

void RunFolder::remove_validation() const {
  std::error_code ignored;
  fs::remove(validation(), ignored);
  remove_samples(
      [](const SampleRow& row) { return row.picture == "best" || row.picture == "worst"; });
}

void RunFolder::remove_samples(const std::function<bool(const SampleRow&)>& is_old) const {
  if (!is_there(sample_table())) return;
  const std::vector<SampleRow> samples = read_samples();
  std::vector<SampleRow> kept;
  std::ranges::remove_copy_if(samples, std::back_inserter(kept), is_old);
  if (kept.size() == samples.size()) return;
  write_samples(kept);
  std::error_code ignored;
  for (const SampleRow& row : samples) {
    if (is_old(row)) fs::remove(sample(row.picture), ignored);
  }
}

void RunFolder::write_sample(const std::string& picture, std::int64_t epoch,
                             std::span<const std::uint8_t> png,
                             const std::vector<ImageQuality>& images) {
  std::vector<SampleRow> samples = read_samples();
  std::erase_if(samples, [&](const SampleRow& row) { return row.picture == picture; });
  for (const ImageQuality& image : images) samples.push_back({picture, epoch, image});
  // The picture goes first: rows must never describe one that is not there.
  write_file(sample(picture), png);
  write_samples(samples);
}

void RunFolder::write_samples(const std::vector<SampleRow>& samples) const {
  std::string text = "picture,epoch,path,width,height,mse,psnr,ssim\n";
  for (const auto& [picture, epoch, image] : samples) {
    text += fmt::format("{},{},{}\n", picture, epoch, csv_fields(image));
  }
  write_file(sample_table(), text);
}

void RunFolder::write_validation(const ValidationTable& table) const {
  std::string text = "epoch,path,width,height,mse,psnr,ssim\n";
  for (const ImageQuality& image : table.images) {
    text += fmt::format("{},{}\n", table.epoch, csv_fields(image));
  }
  write_file(validation(), text);
}

void RunFolder::add_command(const std::string& command) const {
  const std::string before = is_there(commands()) ? read_text(commands()) : "";
  write_file(commands(), before + command + "\n");
}

std::vector<MetricsRow> RunFolder::read_metrics() const {
  return read_table(metrics(), [](const CsvReader& table) {
    MetricsRow row{.epoch = table.integer("epoch", 1), .step = table.integer("step", 0)};
    for (const auto& [name, value] : kMetricsColumns) row.*value = table.number(name);
    return row;
  });
}

std::vector<SampleRow> RunFolder::read_samples() const {
  return read_table(sample_table(), [](const CsvReader& row) {
    return SampleRow{row.text("picture"), row.integer("epoch", 1), read_image(row)};
  });
}

ValidationTable RunFolder::read_validation() const {
  ValidationTable result;
  result.images = read_table(validation(), [&](const CsvReader& row) {
    result.epoch = row.integer("epoch", 1);
    return read_image(row);
  });
  return result;
}

std::vector<std::string> RunFolder::read_commands() const {
  std::vector<std::string> lines;
  if (!is_there(commands())) return lines;
  std::istringstream text(read_text(commands()));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

void RunFolder::write_rate_test(const std::vector<RatePoint>& curve) const {
  std::string text = "lr,loss\n";
  for (const auto& [rate, loss] : curve) {
    text += fmt::format("{},{}\n", csv_number(rate), csv_number(loss));
  }
  write_file(rate_test(), text);
}

std::vector<RatePoint> RunFolder::read_rate_test() const {
  return read_table(rate_test(), [](const CsvReader& row) {
    return RatePoint{row.number("lr"), row.number("loss")};
  });
}

void RunFolder::write_images(const ImageDataset& training, const ImageDataset* validation) const {
  AtomicFile file(image_list());
  std::string rows;
  constexpr std::size_t kAtOnce = 1 << 16;
  write_image_list(training, validation, [&](std::string_view row) {
    rows += row;
    if (rows.size() < kAtOnce) return;
    file.write(rows);
    rows.clear();
  });
  file.write(rows);
  file.commit();
}

ImageList RunFolder::read_images() const {
  ImageList images;
  read_table(image_list(), [&](const CsvReader& row) {
    const bool validates = row.text("set") == "validation";
    (validates ? images.validation : images.training).push_back(row.name("path"));
    return validates;
  });
  return images;
}

void RunFolder::write_skipped(const std::vector<SkippedFile>& skipped) const {
  std::string text = "path,reason\n";
  for (const SkippedFile& file : skipped) {
    text += fmt::format("{},{}\n", csv_field(file.name), csv_field(file.reason));
  }
  write_file(path_ / "skipped.csv", text);
}

}  // namespace convae
