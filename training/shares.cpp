#include "convae/training/shares.h"

namespace convae {
namespace {

struct PlannedImage {
  std::int64_t index;
  Size size;
  std::int64_t pixels() const { return size.area(); }
};

/// Consecutive images with at most that many pixels together.
std::vector<std::vector<PlannedImage>> cut_into_groups(const Step& step,
                                                       const ImageDataset& dataset,
                                                       std::int64_t most_pixels) {
  std::vector<std::vector<PlannedImage>> groups;
  std::int64_t pixels = 0;
  for (const MicroBatch& batch : step) {
    for (const std::int64_t index : batch.indices) {
      const PlannedImage image{index, dataset.image_size(index)};
      if (groups.empty() || pixels + image.pixels() > most_pixels) {
        groups.emplace_back();
        pixels = 0;
      }
      pixels += image.pixels();
      groups.back().push_back(image);
    }
  }
  return groups;
}

/// Of which rank each image is: of the one in whose part of the group's pixels its middle lies.
std::vector<std::int64_t> owners_of(const std::vector<PlannedImage>& group, std::int64_t ranks) {
  std::int64_t all = 0;
  for (const PlannedImage& image : group) all += image.pixels();
  std::vector<std::int64_t> owners;
  std::int64_t before = 0;
  for (const PlannedImage& image : group) {
    owners.push_back((2 * before + image.pixels()) * ranks / (2 * all));
    before += image.pixels();
  }
  return owners;
}

}  // namespace

std::int64_t StepShare::images() const {
  std::int64_t count = 0;
  for (const auto& group : groups) count += std::ssize(group);
  return count;
}

StepShare share_of_step(const Step& step, const ImageDataset& dataset, std::int64_t pixels_each,
                        std::int64_t rank, std::int64_t ranks) {
  // A limit that nobody reaches must not overflow.
  const std::int64_t most = pixels_each > INT64_MAX / ranks ? INT64_MAX : pixels_each * ranks;
  StepShare share;
  for (const std::vector<PlannedImage>& group : cut_into_groups(step, dataset, most)) {
    const std::int64_t number = std::ssize(share.groups);
    const std::vector<std::int64_t> owners = owners_of(group, ranks);
    share.groups.emplace_back();
    for (std::size_t i = 0; i < group.size(); ++i) {
      share.groups.back().push_back(group[i].index);
      if (owners[i] != rank) continue;
      const bool fits = !share.own.empty() && share.own.back().group == number &&
                        dataset.image_size(share.own.back().indices[0]) == group[i].size;
      if (!fits) share.own.push_back({.indices = {}, .images = {}, .group = number});
      share.own.back().indices.push_back(group[i].index);
    }
  }
  return share;
}

}  // namespace convae
