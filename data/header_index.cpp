#include "convae/data/header_index.h"

#include "convae/core/digest.h"
#include "convae/core/files.h"
#include "convae/core/mapped_file.h"
#include "convae/core/paths.h"
#include "convae/core/version.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <type_traits>

namespace convae {
namespace fs = std::filesystem;

// The file: the title, a line; the digest of what follows, a line; the numbers of records and of
// bytes after them; the records, sorted by name; names, each with its remark. As this machine holds
// numbers: it is this machine's own.

/// One image.
struct HeaderIndex::Record {
  std::uint64_t stamp = 0, name_at = 0;
  std::uint32_t height = 0, width = 0;
  std::uint16_t name_size = 0, remark_size = 0, pages = 1;
  std::uint8_t format = 0, channels = 3, bits = 8, orientation = 1, alpha = 0, premultiplied = 0;
  std::uint8_t white_is_zero = 0;
  std::array<std::uint8_t, 3> unused{};

  Record() = default;
  Record(std::uint64_t own_stamp, const ImageInfo& info)
      : stamp(own_stamp), remark_size(static_cast<std::uint16_t>(info.remark.size())) {
    copy_header(info, *this);
  }

  ImageInfo info(std::string_view remark) const {
    ImageInfo kept;
    copy_header(*this, kept);
    kept.remark = remark;
    return kept;
  }

  bool is_possible() const {
    return format < names(ImageFormat{}).size() && (channels == 1 || channels == 3) && height > 0 &&
           width > 0;
  }
};

/// The file, as far as it is looked at.
class HeaderIndex::Kept {
public:
  /// nullptr where it is not there, or not one with that title, or damaged.
  static std::shared_ptr<const Kept> open(const fs::path& path, const std::string& title) {
    if (!is_there(path)) return nullptr;
    try {
      auto kept = std::shared_ptr<Kept>(new Kept(InputFile(path)));
      return kept->is_whole(title) ? kept : nullptr;
    } catch (const std::exception&) {
      return nullptr;
    }
  }
  std::size_t size() const { return records_.size() / sizeof(Record); }
  Record operator[](std::size_t place) const {
    Record record;
    std::memcpy(&record, &records_[place * sizeof(Record)], sizeof(Record));
    return record;
  }
  /// "" where they lie outside of the file: it is damaged.
  std::string_view name(const Record& record) const {
    return text(record.name_at, record.name_size);
  }
  std::string_view remark(const Record& record) const {
    return text(record.name_at + record.name_size, record.remark_size);
  }

private:
  explicit Kept(InputFile file) : file_(std::move(file)) {}

  bool is_whole(const std::string& title) {
    std::array<std::uint64_t, 2> numbers{};
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): bytes as text
    const std::string_view all(reinterpret_cast<const char*>(file_.bytes().data()),
                               file_.bytes().size());
    if (!all.starts_with(title)) return false;
    std::string_view rest = all.substr(title.size());
    const std::string_view digest = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), digest.size() + 1));
    if (rest.size() < sizeof numbers || digest != digest_of(rest)) return false;
    file_.let_go();
    std::memcpy(numbers.data(), rest.data(), sizeof numbers);
    rest.remove_prefix(sizeof numbers);
    if (numbers[0] > rest.size() / sizeof(Record) ||
        rest.size() - numbers[0] * sizeof(Record) != numbers[1]) {
      return false;
    }
    records_ = rest.substr(0, numbers[0] * sizeof(Record));
    texts_ = rest.substr(records_.size());
    return true;
  }

  std::string_view text(std::uint64_t at, std::size_t length) const {
    return at <= texts_.size() && length <= texts_.size() - at ? texts_.substr(at, length) : "";
  }

  MappedFile file_;
  std::string_view records_, texts_;
};

/// A file like Kept while it is made.
class HeaderIndex::Keeper {
public:
  void add(std::string_view name, Record record, std::string_view remark) {
    record.name_at = texts_.size();
    record.name_size = static_cast<std::uint16_t>(name.size());
    texts_.append(name).append(remark);
    records_.push_back(record);
  }

  void write(const fs::path& path, const std::string& title) const {
    const std::array<std::uint64_t, 2> numbers = {records_.size(), texts_.size()};
    fs::create_directories(path.parent_path());
    const auto say = [&](const auto& add) {
      add(bytes_of(numbers));
      add(bytes_of(records_));
      add(texts_);
    };
    AtomicFile file(path);
    file.write(title + digest_of_all(say) + "\n");
    say([&](std::string_view part) { file.write(part); });
    file.commit();
  }

private:
  static std::string_view bytes_of(const auto& values) {
    const void* const first = values.data();
    return {static_cast<const char*>(first), values.size() * sizeof values[0]};
  }

  std::vector<Record> records_;
  std::string texts_;
};

HeaderIndex::HeaderIndex(const fs::path& where, const fs::path& data) : data_(data) {
  static_assert(sizeof(Record) == 40 && std::is_trivially_copyable_v<Record>);
  if (where.empty()) return;
  std::error_code ignored;
  const std::string folder = fs::weakly_canonical(data, ignored).string();
  path_ = where / (digest_of(folder) + ".headers");
  title_ = fmt::format("convae {} headers, with a digest, of {}\n", kVersion, printable(folder));
  kept_ = Kept::open(path_, title_);
}

std::uint64_t HeaderIndex::stamp(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return 0;
  const std::array<std::int64_t, 6> known = {
      status.st_size,        status.st_mtim.tv_sec,  status.st_mtim.tv_nsec,
      status.st_ctim.tv_sec, status.st_ctim.tv_nsec, static_cast<std::int64_t>(status.st_ino)};
  return std::max<std::uint64_t>(1, XXH3_64bits(known.data(), sizeof known));
}

std::optional<ImageInfo> HeaderIndex::find(std::string_view name, std::uint64_t stamp) const {
  if (!kept_ || stamp == 0) return std::nullopt;
  std::size_t low = 0, high = kept_->size();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    const Record record = (*kept_)[middle];
    const int order = kept_->name(record).compare(name);
    if (order == 0) {
      const bool is_known = record.stamp == stamp && record.is_possible();
      return is_known ? std::optional(record.info(kept_->remark(record))) : std::nullopt;
    }
    (order < 0 ? low : high) = order < 0 ? middle + 1 : middle;
  }
  return std::nullopt;
}

void HeaderIndex::save(const ImageFiles& files, const std::vector<std::uint64_t>& stamps,
                       const ImageInfos& infos) const noexcept {
  if (path_.empty()) return;
  try {
    std::set<std::uint64_t> shards;
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (files.is_in_shard(i)) shards.insert(stamps[i]);
    }
    Keeper keeper;
    // A call may list a part of the folder, or of a shard, only.
    const std::size_t kept = kept_ ? kept_->size() : 0;
    std::size_t next = 0;
    const auto add_others = [&](const auto& is_before) {
      for (; next < kept; ++next) {
        const Record record = (*kept_)[next];
        const std::string_view name = kept_->name(record);
        if (!is_before(name)) return;
        const bool is_kept = shards.contains(record.stamp) || is_there(data_ / name);
        if (is_kept && !name.empty()) keeper.add(name, record, kept_->remark(record));
      }
    };
    for (std::size_t i = 0; i < files.size(); ++i) {
      const std::string_view own = files.name(i);
      add_others([&](std::string_view name) { return name < own; });
      if (next < kept && kept_->name((*kept_)[next]) == own) ++next;
      if (stamps[i] != 0) keeper.add(own, Record(stamps[i], infos[i]), infos.remark(i));
    }
    add_others([](std::string_view /*name*/) { return true; });
    keeper.write(path_, title_);
  } catch (const std::exception&) {
  }
}

std::string index_beside_run(const fs::path& checkpoint) {
  const fs::path run = run_of(checkpoint);
  const bool is_run = !run.empty() && is_there(run / "config.toml");
  return is_run ? (run.parent_path() / ".index").string() : "";
}

}  // namespace convae
