#include "convae/data/image_entries.h"

#include <algorithm>

namespace convae {

ImageInfo ImageInfos::operator[](std::size_t place) const {
  ImageInfo info;
  copy_header(rows_[place], info);
  info.remark = remark(place);
  return info;
}

void ImageInfos::set(std::size_t place, const ImageInfo& info) {
  Row row;
  copy_header(info, row);
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
