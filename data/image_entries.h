#pragma once

#include "convae/core/size.h"
#include "convae/data/image_files.h"
#include "convae/data/image_io.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace convae {

/// An image as its header describes it.
struct ImageEntry {
  ImageFile file;
  ImageInfo info;
  Size file_size() const { return {info.height, info.width}; }
};

/// Copies all that a header says but its remark: ImageInfo and the forms in which it is kept have
/// the same members.
template <typename To>
void copy_header(const auto& from, To& to) {
  static_assert(sizeof(ImageInfo) == 80, "copy the new member, too");
  to.format = static_cast<decltype(to.format)>(from.format);
  to.height = static_cast<decltype(to.height)>(from.height);
  to.width = static_cast<decltype(to.width)>(from.width);
  to.channels = static_cast<decltype(to.channels)>(from.channels);
  to.alpha = static_cast<decltype(to.alpha)>(from.alpha);
  to.bits = static_cast<decltype(to.bits)>(from.bits);
  to.orientation = static_cast<decltype(to.orientation)>(from.orientation);
  to.pages = static_cast<decltype(to.pages)>(from.pages);
  to.premultiplied = static_cast<decltype(to.premultiplied)>(from.premultiplied);
  to.white_is_zero = static_cast<decltype(to.white_is_zero)>(from.white_is_zero);
}

/// What headers say, at 20 bytes each.
class ImageInfos {
public:
  explicit ImageInfos(std::size_t count = 0) : rows_(count) {}
  ImageInfo operator[](std::size_t place) const;
  Size size(std::size_t place) const { return {rows_[place].height, rows_[place].width}; }
  int channels(std::size_t place) const { return rows_[place].channels; }
  int bits(std::size_t place) const { return rows_[place].bits; }
  int pages(std::size_t place) const { return rows_[place].pages; }
  const std::string& remark(std::size_t place) const { return (*remarks_)[rows_[place].remark]; }
  /// Not from several threads where there is a remark.
  void set(std::size_t place, const ImageInfo& info);
  void push_back(const ImageInfo& info);
  /// As ImageFiles::take_if().
  template <typename Take>
  ImageInfos take_if(const Take& take) {
    ImageInfos taken;
    taken.remarks_ = remarks_;
    taken.rows_ = take_rows(rows_, take);
    return taken;
  }

private:
  struct Row {
    std::uint32_t height = 0, width = 0, remark = 0;
    std::uint16_t pages = 1;
    std::uint8_t format = 0, channels = 3, bits = 8, orientation = 1;
    bool alpha : 1 = false, premultiplied : 1 = false, white_is_zero : 1 = false;
  };
  static_assert(sizeof(Row) == 20);
  std::vector<Row> rows_;
  // Few, and the first is none. Copies share them.
  std::shared_ptr<std::vector<std::string>> remarks_ =
      std::make_shared<std::vector<std::string>>(1);
};

/// Images of a folder in few bytes each, by name where they come from a listing.
class ImageEntries {
public:
  using value_type = ImageEntry;
  ImageEntries() = default;
  ImageEntries(ImageFiles files, ImageInfos infos)
      : files_(std::move(files)), infos_(std::move(infos)) {}
  ImageEntries(const std::vector<ImageEntry>& entries);

  std::size_t size() const { return files_.size(); }
  bool empty() const { return files_.empty(); }
  ImageEntry operator[](std::size_t place) const { return {files_[place], infos_[place]}; }
  auto begin() const { return ListIterator<ImageEntries>{this, 0}; }
  auto end() const { return ListIterator<ImageEntries>{this, size()}; }

  const ImageFiles& files() const { return files_; }
  const ImageInfos& infos() const { return infos_; }
  std::string name(std::size_t place) const { return std::string(files_.name(place)); }

  /// As ImageFiles::take_if().
  template <typename Take>
  ImageEntries take_if(const Take& take) {
    std::vector<bool> goes(size());
    for (std::size_t place = 0; place < size(); ++place) goes[place] = take(place);
    const auto is_taken = [&](std::size_t place) { return goes[place]; };
    ImageFiles files = files_.take_if(is_taken);
    return {std::move(files), infos_.take_if(is_taken)};
  }

private:
  ImageFiles files_;
  ImageInfos infos_;
};

}  // namespace convae
