#include "convae/reporting/report_pictures.h"

#include "convae/core/files.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/image_io.h"
#include "convae/data/pictures.h"
#include "convae/reporting/page.h"
#include "convae/reporting/report_data.h"
#include "convae/training/run_folder.h"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <stdexcept>

namespace convae {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMaxSamples = 20;       // epochs with pictures
constexpr std::int64_t kThumbnailSide = 144;  // at most, in pixels

/// samples/defects.png, or null.
ordered_json defects_json(const RunFolder& folder) try {
  if (!is_there(folder.defects())) return nullptr;
  const torch::Tensor sheet = decode_image(read_file(folder.defects()), /*channels=*/3);
  return thumbnail_uri(sheet, std::max(sheet.size(1), sheet.size(2)));
} catch (const std::runtime_error&) {
  return nullptr;
}

/// A part of a sample picture, which shows images of `own` size, small ones enlarged.
std::string thumbnail(const torch::Tensor& shown, Size own) {
  using torch::indexing::None;
  using torch::indexing::Slice;
  const std::int64_t factor = std::max<std::int64_t>(1, shown.size(1) / own.h);
  return thumbnail_uri(shown.index({Slice(), Slice(0, None, factor), Slice(0, None, factor)}),
                       kThumbnailSide);
}

/// The images of a picture, from samples.csv.
struct Picture {
  std::int64_t epoch = 0;
  std::vector<ImageQuality> images;
};

std::map<std::string, Picture> pictures_of(const std::vector<SampleRow>& rows) {
  std::map<std::string, Picture> pictures;
  for (const SampleRow& row : rows) {
    Picture& picture = pictures[row.picture];
    picture.epoch = row.epoch;
    picture.images.push_back(row.image);
  }
  return pictures;
}

/// Enlarged images return to their own size, pixel by pixel. Empty where the file cannot be read or
/// has another size than these images.
std::vector<ThumbnailRow> cut_up(const std::filesystem::path& path, const Picture& picture) try {
  std::vector<Size> shown;
  for (const ImageQuality& image : picture.images) {
    shown.push_back(shown_size(image.size, kMaxSampleSide));
  }
  std::vector<ThumbnailRow> rows;
  for (const auto& parts : take_apart(decode_image(read_file(path), /*channels=*/3), shown)) {
    const Size own = picture.images[rows.size()].size;
    rows.push_back({thumbnail(parts[0], own), thumbnail(parts[1], own), thumbnail(parts[2], own)});
  }
  return rows;
} catch (const std::runtime_error&) {
  return {};
}

/// The names of the pictures that are shown, in the order of their epochs.
std::vector<std::string> shown_epochs(const std::map<std::string, Picture>& pictures) {
  std::map<std::int64_t, std::string> by_epoch;
  for (const auto& [name, picture] : pictures) {
    if (name == RunFolder::sample_name(picture.epoch)) by_epoch[picture.epoch] = name;
  }
  std::vector<std::string> shown;
  for (const std::size_t place : spread(by_epoch.size(), kMaxSamples)) {
    shown.push_back(std::next(by_epoch.begin(), static_cast<std::ptrdiff_t>(place))->second);
  }
  return shown;
}

}  // namespace

void ReportPictures::add_to(ordered_json& data, const RunFolder& folder) {
  std::vector<std::string> uris;
  std::map<std::string, std::size_t> places;
  const auto place = [&](const std::string& uri) {
    const auto [found, is_new] = places.try_emplace(uri, uris.size());
    if (is_new) uris.push_back(uri);
    return found->second;
  };
  const std::map<std::string, Picture> pictures = pictures_of(folder.read_samples());
  decltype(cut_) shown;
  const auto write = [&](const std::string& name) -> ordered_json {
    const auto found = pictures.find(name);
    if (found == pictures.end()) return nullptr;
    const Picture& picture = found->second;
    const auto known = cut_.find({name, picture.epoch});
    const std::vector<ThumbnailRow> rows =
        known != cut_.end() ? known->second : cut_up(folder.sample(name), picture);
    shown[{name, picture.epoch}] = rows;
    ordered_json images = ordered_json::array();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto& [input, reconstruction, error] = rows[i];
      const ImageQuality& image = picture.images[i];
      images.push_back({{"name", printable(image.name)},
                        {"size", {image.size.w, image.size.h}},
                        {"mse", image.mse},
                        {"psnr", image.psnr},
                        {"ssim", image.ssim},
                        {"parts", {place(input), place(reconstruction), place(error)}}});
    }
    return {{"epoch", picture.epoch}, {"images", std::move(images)}};
  };
  data["samples"] = ordered_json::array();
  for (const std::string& name : shown_epochs(pictures)) data["samples"].push_back(write(name));
  data["best"] = write("best");
  data["worst"] = write("worst");
  data["defects"] = defects_json(folder);
  data["pictures"] = uris;
  cut_ = std::move(shown);
}

}  // namespace convae
