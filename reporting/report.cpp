#include "convae/reporting/report.h"

#include "convae/core/files.h"
#include "convae/core/version.h"
#include "convae/reporting/report_data.h"
#include "convae/reporting/report_template.h"

#include <nlohmann/json.hpp>

#include <ctime>

namespace convae {
namespace {

using nlohmann::ordered_json;

// What keeps a report small, however long the run and its lists.
constexpr std::size_t kMaxRows = 500;    // of the curves
constexpr std::size_t kMaxSamples = 20;  // epochs with pictures
constexpr std::size_t kMaxSkipped = 200;
constexpr std::size_t kMaxCommands = 50;

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm local{};
  localtime_r(&time, &local);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local)};
}

ordered_json skipped_json(const std::vector<SkippedFile>& skipped) {
  ordered_json files = ordered_json::array();
  for (std::size_t i = 0; i < std::min(skipped.size(), kMaxSkipped); ++i) {
    files.push_back({printable(skipped[i].name), printable(skipped[i].reason)});
  }
  return {{"count", skipped.size()}, {"files", std::move(files)}};
}

ordered_json latest_of(const std::vector<std::string>& lines) {
  const auto count = static_cast<std::ptrdiff_t>(std::min(lines.size(), kMaxCommands));
  return std::vector<std::string>(lines.end() - count, lines.end());
}

/// The rows of samples.csv, picture by picture, each picture's with its epoch.
struct Picture {
  std::int64_t epoch = 0;
  std::vector<ImageQuality> images;
  std::vector<Size> sizes;
};
std::map<std::string, Picture> pictures_of(const std::vector<SampleRow>& rows) {
  std::map<std::string, Picture> pictures;
  for (const SampleRow& row : rows) {
    Picture& picture = pictures[row.picture];
    picture.epoch = row.epoch;
    picture.images.push_back(row.image);
    picture.sizes.push_back(row.image.size);
  }
  return pictures;
}

/// Pictures as the page has them, each data: URI once.
class PictureWriter {
public:
  ordered_json write(const Picture& picture, const std::vector<ThumbnailRow>& rows) {
    ordered_json images = ordered_json::array();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const ImageQuality& image = picture.images[i];
      images.push_back(
          {{"name", image.name},
           {"size", {image.size.w, image.size.h}},
           {"mse", image.mse},
           {"psnr", image.psnr},
           {"ssim", image.ssim},
           {"parts", {place(rows[i].input), place(rows[i].reconstruction), place(rows[i].error)}}});
    }
    return {{"epoch", picture.epoch}, {"images", std::move(images)}};
  }

  ordered_json uris() const { return uris_; }

private:
  std::size_t place(const std::string& uri) {
    const auto [found, is_new] = places_.try_emplace(uri, uris_.size());
    if (is_new) uris_.push_back(uri);
    return found->second;
  }
  std::vector<std::string> uris_;
  std::map<std::string, std::size_t> places_;
};

/// Epochs whose pictures are shown, in order, and the pictures' names.
std::vector<std::string> shown_epochs(const std::map<std::string, Picture>& pictures) {
  std::map<std::int64_t, std::string> by_epoch;
  for (const auto& [name, picture] : pictures) {
    if (name == RunFolder::sample_name(picture.epoch)) by_epoch[picture.epoch] = name;
  }
  std::vector<std::string> names;
  for (const auto& [epoch, name] : by_epoch) names.push_back(name);
  std::vector<std::string> shown;
  for (const std::size_t place : spread(names.size(), kMaxSamples)) shown.push_back(names[place]);
  return shown;
}

/// A picture that cannot be read is not shown; the rest of the report still helps.
std::vector<ThumbnailRow> cut_or_none(const std::filesystem::path& path, const Picture& picture) {
  try {
    return cut_sample(path, picture.sizes);
  } catch (const std::runtime_error&) {
    return {};
  }
}

/// Adds all pictures. `cut` holds those of the last report, and afterwards of this one.
void add_pictures(ordered_json& data, const RunFolder& folder, CutSamples& cut) {
  const std::map<std::string, Picture> pictures = pictures_of(folder.read_samples());
  PictureWriter writer;
  CutSamples shown;
  const auto write = [&](const std::string& name) -> ordered_json {
    const auto found = pictures.find(name);
    if (found == pictures.end()) return nullptr;
    const Picture& picture = found->second;
    const CutSamples::key_type key(name, picture.epoch);
    const auto known = cut.find(key);
    shown[key] = known != cut.end() ? known->second : cut_or_none(folder.sample(name), picture);
    return writer.write(picture, shown[key]);
  };
  ordered_json samples = ordered_json::array();
  for (const std::string& name : shown_epochs(pictures)) samples.push_back(write(name));
  data["samples"] = std::move(samples);
  data["best"] = write("best");
  data["worst"] = write("worst");
  data["pictures"] = writer.uris();
  cut = std::move(shown);
}

/// The page with its data, JSON from script_json().
std::string report_page(std::string_view json) {
  constexpr std::string_view kPlace = "@REPORT_DATA@";
  const std::size_t place = kReportTemplate.find(kPlace);
  if (place == std::string_view::npos) throw std::logic_error("the report's template has no data");
  std::string page(kReportTemplate);
  return page.replace(place, kPlace.size(), json);
}

}  // namespace

void RunReport::update(const RunStatus& run) {
  if (Clock::now() - written_at_ < kMaxShare * cost_) return;
  write(run, RunState::running);
}

void RunReport::write(const RunStatus& run, RunState state, const std::string& message) {
  const Clock::time_point start = Clock::now();
  ordered_json data = {{"name", printable(run.folder.path().filename().string())},
                       {"version", kVersion},
                       {"written", now()},
                       {"state", to_string(state)},
                       {"message", message},
                       {"epochs", run.epochs},
                       {"best_epoch", run.progress.best_epoch},
                       {"best_by", to_string(run.progress.best_by)},
                       {"skipped_steps", run.progress.skipped_steps}};
  const std::vector<MetricsRow> metrics = run.folder.read_metrics();
  data["rows"] = metrics.size();
  data["metrics"] = metrics_json(metrics, kMaxRows, run.progress.best_epoch);
  add_pictures(data, run.folder, cut_);
  const ValidationTable validation = run.folder.read_validation();
  data["validation"] = {{"epoch", validation.epoch},
                        {"images", validation.images.size()},
                        {"histogram", histogram_json(validation.images)}};
  data["model"] = model_json(run.model, run.input);
  data["commands"] = latest_of(run.folder.read_commands());
  data["config"] = read_text(run.folder.config());
  data["skipped"] = skipped_json(run.skipped);
  write_file(run.folder.report(), report_page(script_json(data)));
  written_at_ = Clock::now();
  cost_ = written_at_ - start;
}

}  // namespace convae
