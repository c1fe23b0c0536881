#pragma once

#include "convae/core/api.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace CONVAE_API convae {

/// An image file of a folder, or a member of one of its tar shards.
struct ImageFile {
  std::string name;            ///< path relative to the folder, '/' between its parts
  std::filesystem::path path;  ///< the file, or the shard; open_image() reads it
  std::int64_t offset = 0;     ///< in a shard: where its bytes begin
  std::int64_t size = -1;      ///< in a shard: how many they are; -1: it is a file of its own
  bool is_in_shard() const { return size >= 0; }
};

/// Goes through a list that makes its elements as they are asked for.
template <typename List>
struct ListIterator {
  using value_type = typename List::value_type;
  using difference_type = std::ptrdiff_t;
  const List* list = nullptr;
  std::size_t place = 0;
  value_type operator*() const { return (*list)[place]; }
  ListIterator& operator++() { return ++place, *this; }
  ListIterator operator++(int) { return {list, place++}; }
  bool operator==(const ListIterator&) const = default;
};

/// Removes the rows for which take(place) is true, called once for each in order, and returns them.
template <typename Row, typename Take>
std::vector<Row> take_rows(std::vector<Row>& rows, const Take& take) {
  std::vector<Row> taken;
  std::size_t kept = 0;
  for (std::size_t place = 0; place < rows.size(); ++place) {
    if (take(place)) {
      taken.push_back(rows[place]);
    } else {
      rows[kept++] = rows[place];
    }
  }
  rows.resize(kept);
  return taken;
}

/// Image files at 24 bytes each beside their names, which lie one after the other: there may be
/// millions. Copies share the names.
class ImageFiles {
public:
  using value_type = ImageFile;
  /// Longer names cannot be held; no system has longer paths.
  static constexpr std::size_t kLongestName = 4096;

  std::size_t size() const { return rows_.size(); }
  bool empty() const { return rows_.empty(); }
  /// As long as the list or a copy of it lives.
  std::string_view name(std::size_t place) const;
  ImageFile operator[](std::size_t place) const;
  auto begin() const { return ListIterator<ImageFiles>{this, 0}; }
  auto end() const { return ListIterator<ImageFiles>{this, size()}; }

  /// Where files are; to be named when they are added. `path` is a folder, in which they have their
  /// names without the first `prefix_size` characters, or a shard.
  std::uint32_t add_source(std::filesystem::path path, std::size_t prefix_size);
  void add(std::string_view name, std::uint32_t source, std::int64_t offset = 0,
           std::int64_t size = -1);
  /// A file as it is, at more memory.
  void add(const ImageFile& file);

  /// What the file was added with; all files of a folder, or of a shard, have the same. Of a
  /// shard's in ImageFolder::files it is the shard's place among ImageFolder::shards.
  std::uint32_t source(std::size_t place) const { return rows_[place].source; }
  bool is_in_shard(std::size_t place) const { return rows_[place].size != kWholeFile; }

  /// By name, byte by byte; those of one name stay in order.
  void sort();
  /// Removes those for which take(place) is true, called once for each in order, and returns them.
  template <typename Take>
  ImageFiles take_if(const Take& take) {
    ImageFiles taken;
    taken.shared_ = shared_;
    taken.rows_ = take_rows(rows_, take);
    return taken;
  }

private:
  static constexpr std::uint64_t kWholeFile = (std::uint64_t{1} << 40) - 1;
  struct Row {
    std::uint64_t name_at : 48, name_size : 16;
    std::uint64_t size : 40, source : 24;
    std::int64_t offset;
  };
  static_assert(sizeof(Row) == 24);
  struct Source {
    std::filesystem::path path;
    std::size_t prefix_size;
  };
  struct Shared {
    std::vector<std::unique_ptr<char[]>> blocks;  // of names, each in one
    std::size_t used = 0;                         // of the last
    std::vector<Source> sources;
  };
  std::vector<Row> rows_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace convae
