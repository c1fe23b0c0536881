#include "convae/training/image_list.h"

#include "convae/core/digest.h"
#include "convae/core/text.h"
#include "convae/training/collective.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <stdexcept>
#include <utility>

namespace convae {
namespace {

using Places = std::set<std::pair<std::string, bool>>;  // name, whether it is for training

using Write = std::function<void(std::string_view)>;

constexpr std::string_view kHeading = "path,set\n", kTraining = "training",
                           kValidation = "validation";

/// Not csv_field(): these rows are in quotes, whatever they hold, and digests are of them.
void write_row(const std::string& name, std::string_view set, std::string& row,
               const Write& write) {
  row = '"';
  for (const char c : printable(name)) row.append(c == '"' ? 2 : 1, c);
  row.append("\",").append(set) += '\n';
  write(row);
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
    : training(training_images.names()) {
  if (validation_images != nullptr) validation = validation_images->names();
}

std::string ImageList::digest() const {
  return digest_of_all([&](const Write& write) {
    std::string row;
    write(kHeading);
    for (const std::string& name : training) write_row(name, kTraining, row, write);
    for (const std::string& name : validation) write_row(name, kValidation, row, write);
  });
}

void write_image_list(const ImageDataset& training, const ImageDataset* validation,
                      const Write& write) {
  std::string row;
  const auto add = [&](const ImageDataset& images, std::string_view set) {
    for (std::int64_t i = 0; i < images.size(); ++i) {
      write_row(images.name(i), set, row, write);
    }
  };
  write(kHeading);
  add(training, kTraining);
  if (validation != nullptr) add(*validation, kValidation);
}

std::string image_digest(const ImageDataset& training, const ImageDataset* validation) {
  return digest_of_all([&](const Write& write) { write_image_list(training, validation, write); });
}

void require_same_images_on_ranks(const std::string& digest) {
  if (!on_any_rank(said_by_first_rank(digest) != digest)) return;
  throw std::runtime_error(
      "the ranks do not see the same images: all of them need --data at the same path");
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
