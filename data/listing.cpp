#include "convae/data/listing.h"

#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/globs.h"
#include "convae/data/layout.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>

namespace convae {
namespace fs = std::filesystem;
namespace {

// GIF is listed so that reading refuses it with a reason instead of silently ignoring it.
constexpr std::array<std::string_view, 15> kExtensions = {".jpg", ".jpeg", ".jpe", ".jfif", ".png",
                                                          ".bmp", ".dib",  ".tif", ".tiff", ".webp",
                                                          ".pgm", ".ppm",  ".pnm", ".pbm",  ".gif"};

/// What a folder of results has together; maps come before what is written of all scores.
const std::vector<std::vector<std::string>> kResults = {{"config.toml", "weights"},
                                                        {"scores.csv", "summary.json"},
                                                        {"heat", "overlay"},
                                                        {"evaluate.csv", "evaluate.json"},
                                                        {"samples.png", "sample_00001.png"},
                                                        {"strip.png", "step_00001.png"}};
constexpr const char* kReconstructed = "reconstruct.csv";

std::string first_line_of(const fs::path& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

}  // namespace

bool is_image_ending(const std::string& ending) {
  return std::ranges::find(kExtensions, ending) != kExtensions.end();
}

bool Chosen::takes(const std::string& name) {
  // All are tried, to know those that match nothing.
  const auto any = [&](const std::vector<std::string>& globs, std::vector<bool>& matched) {
    bool found = false;
    for (std::size_t i = 0; i < globs.size(); ++i) {
      if (!matches_glob(globs[i], name)) continue;
      found = matched[i] = true;
    }
    return found;
  };
  const bool included = any(globs_.include, include_) || globs_.include.empty();
  return !any(globs_.exclude, exclude_) && included;
}

bool Chosen::names_folder(const std::string& own_name) const {
  return std::ranges::any_of(globs_.include, [&](const std::string& glob) {
    const fs::path parts = glob;
    return std::ranges::find(parts, fs::path(own_name)) != parts.end();
  });
}

std::vector<std::string> Chosen::unmatched() const {
  std::vector<std::string> flags;
  const auto note = [&](const char* flag, const auto& globs, const std::vector<bool>& matched) {
    for (std::size_t i = 0; i < globs.size(); ++i) {
      if (!matched[i]) flags.push_back(flag + in_quotes(globs[i]));
    }
  };
  note("--include ", globs_.include, include_);
  note("--exclude ", globs_.exclude, exclude_);
  return flags;
}

bool is_mask_folder(const std::string& own_name, const Chosen& chosen) {
  return has_role(own_name, FolderRole::masks) && !chosen.names_folder(own_name);
}

bool holds_results(const std::function<bool(const std::string& name)>& has,
                   const std::function<std::string(const std::string& name)>& first_line) {
  const bool is_known = std::ranges::any_of(kResults, [&](const std::vector<std::string>& files) {
    return std::ranges::all_of(files, has);
  });
  return is_known || (has(kReconstructed) &&
                      first_line(kReconstructed).starts_with("path,width,height,mse,psnr,ssim"));
}

bool is_folder_of_results(const fs::path& folder) {
  return holds_results([&](const std::string& name) { return is_there(folder / name); },
                       [&](const std::string& name) { return first_line_of(folder / name); });
}

bool is_part_of_results(const std::string& own_name) {
  return own_name == "heat" || own_name == "overlay" || own_name == "grid" || own_name == "error";
}

const std::set<std::string>& names_of_results() {
  static const std::set<std::string> names = [] {
    std::set<std::string> all = {kReconstructed};
    for (const std::vector<std::string>& files : kResults) all.insert(files.begin(), files.end());
    return all;
  }();
  return names;
}

}  // namespace convae
