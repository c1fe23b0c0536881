#include "convae/training/image_list.h"

#include "convae/core/digest.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iomanip>
#include <iterator>
#include <set>
#include <sstream>
#include <utility>

namespace convae {
namespace {

using Places = std::set<std::pair<std::string, bool>>;  // name, whether it is for training

std::vector<std::string> names_in(const ImageDataset& images) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < images.size(); ++i) {
    names.push_back(printable(images.entry(i).file.name));
  }
  return names;
}

Places places_of(const ImageList& list) {
  Places places;
  for (const std::string& name : list.training) places.emplace(name, true);
  for (const std::string& name : list.validation) places.emplace(name, false);
  return places;
}

/// The names in `places` that `others` does not have there, sorted.
std::vector<std::string> names_without(const Places& places, const Places& others) {
  Places rest;
  std::ranges::set_difference(places, others, std::inserter(rest, rest.end()));
  std::vector<std::string> names;
  for (const auto& [name, is_for_training] : rest) names.push_back(name);
  return names;
}

}  // namespace

ImageList::ImageList(const ImageDataset& training_images, const ImageDataset* validation_images)
    : training(names_in(training_images)) {
  if (validation_images != nullptr) validation = names_in(*validation_images);
}

std::string ImageList::to_csv() const {
  std::ostringstream text;
  text << "path,set\n";
  const auto write = [&](const std::vector<std::string>& names, const char* set) {
    for (const std::string& name : names) {
      // Not csv_field(), which would escape what is printable already.
      text << std::quoted(name, '"', /*escape=*/'"') << "," << set << "\n";
    }
  };
  write(training, "training");
  write(validation, "validation");
  return text.str();
}

std::string ImageList::digest() const {
  const std::string text = to_csv();
  return digest_of(text);
}

std::string changes_between(const ImageList& before, const ImageList& now) {
  const Places was = places_of(before), is = places_of(now);
  const std::vector<std::string> came = names_without(is, was), went = names_without(was, is);
  std::vector<std::string> added, removed, moved;
  std::ranges::set_difference(came, went, std::back_inserter(added));
  std::ranges::set_difference(went, came, std::back_inserter(removed));
  std::ranges::set_intersection(came, went, std::back_inserter(moved));
  std::string text;
  const auto tell = [&](const std::vector<std::string>& names, const char* what) {
    if (names.empty()) return;
    text += fmt::format("{}{} {} ({})", text.empty() ? "" : ", ", names.size(), what,
                        some_in_quotes(names));
  };
  tell(added, "added");
  tell(removed, "removed");
  tell(moved, "moved between training and validation");
  return text;
}

}  // namespace convae
