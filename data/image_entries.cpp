#include "convae/data/image_entries.h"

#include <algorithm>

namespace convae {

ImageInfo ImageInfos::operator[](std::size_t place) const {
  const Row& row = rows_[place];
  ImageInfo info;
  info.format = static_cast<ImageFormat>(row.format);
  info.height = row.height;
  info.width = row.width;
  info.channels = row.channels;
  info.alpha = row.alpha;
  info.bits = row.bits;
  info.orientation = row.orientation;
  info.pages = row.pages;
  info.premultiplied = row.premultiplied;
  info.white_is_zero = row.white_is_zero;
  info.remark = remark(place);
  return info;
}

void ImageInfos::set(std::size_t place, const ImageInfo& info) {
  static_assert(sizeof(ImageInfo) == 80, "keep the new member, too");
  Row row;
  row.format = static_cast<std::uint8_t>(info.format);
  row.height = static_cast<std::uint32_t>(info.height);
  row.width = static_cast<std::uint32_t>(info.width);
  row.channels = static_cast<std::uint8_t>(info.channels);
  row.alpha = info.alpha;
  row.bits = static_cast<std::uint8_t>(info.bits);
  row.orientation = static_cast<std::uint8_t>(info.orientation);
  row.pages = static_cast<std::uint16_t>(info.pages);
  row.premultiplied = info.premultiplied;
  row.white_is_zero = info.white_is_zero;
  if (!info.remark.empty()) {
    const auto known = std::ranges::find(*remarks_, info.remark);
    row.remark = static_cast<std::uint32_t>(known - remarks_->begin());
    if (known == remarks_->end()) remarks_->push_back(info.remark);
  }
  rows_[place] = row;
}

void ImageInfos::push_back(const ImageInfo& info) {
  rows_.emplace_back();
  set(rows_.size() - 1, info);
}

ImageEntries::ImageEntries(const std::vector<ImageEntry>& entries) {
  for (const ImageEntry& entry : entries) {
    files_.add(entry.file);
    infos_.push_back(entry.info);
  }
}

}  // namespace convae
