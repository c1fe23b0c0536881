#include "convae/data/image_files.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace convae {
namespace {

constexpr int kBlockBits = 20;
constexpr std::size_t kBlockBytes = std::size_t{1} << kBlockBits;

/// A name in blocks of kBlockBytes.
std::string_view text_at(const std::vector<std::unique_ptr<char[]>>& blocks, std::uint64_t at,
                         std::size_t size) {
  return {blocks[at >> kBlockBits].get() + at % kBlockBytes, size};
}

}  // namespace

std::string_view ImageFiles::name(std::size_t place) const {
  const Row& row = rows_[place];
  return text_at(shared_->blocks, row.name_at, row.name_size);
}

ImageFile ImageFiles::operator[](std::size_t place) const {
  const Row& row = rows_[place];
  const Source& source = shared_->sources[row.source];
  ImageFile file{std::string(name(place)), source.path};
  if (row.size != kWholeFile) {
    file.offset = row.offset;
    file.size = static_cast<std::int64_t>(row.size);
  } else if (const std::string below = file.name.substr(source.prefix_size); !below.empty()) {
    file.path /= below;
  }
  return file;
}

std::uint32_t ImageFiles::add_source(std::filesystem::path path, std::size_t prefix_size) {
  shared_->sources.push_back({std::move(path), prefix_size});
  return static_cast<std::uint32_t>(shared_->sources.size() - 1);
}

void ImageFiles::add(std::string_view name, std::uint32_t source, std::int64_t offset,
                     std::int64_t size) {
  Shared& shared = *shared_;
  if (name.size() > kLongestName) throw std::length_error("a name has more than 4096 bytes");
  if (shared.blocks.empty() || shared.used + name.size() > kBlockBytes) {
    shared.blocks.push_back(std::make_unique_for_overwrite<char[]>(kBlockBytes));
    shared.used = 0;
  }
  std::memcpy(shared.blocks.back().get() + shared.used, name.data(), name.size());
  Row row{};
  row.name_at = (shared.blocks.size() - 1) << kBlockBits | shared.used;
  row.name_size = name.size();
  row.size = size < 0 ? kWholeFile : static_cast<std::uint64_t>(size);
  row.source = source;
  row.offset = offset;
  shared.used += name.size();
  rows_.push_back(row);
}

void ImageFiles::add(const ImageFile& file) {
  add(file.name, add_source(file.path, file.name.size()), file.offset, file.size);
}

void ImageFiles::sort() {
  const auto name_of = [&](const Row& row) {
    return text_at(shared_->blocks, row.name_at, row.name_size);
  };
  std::ranges::stable_sort(rows_, {}, name_of);
}

}  // namespace convae
