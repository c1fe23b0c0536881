#include "convae/data/shards.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/machine.h"
#include "convae/core/parallel.h"
#include "convae/core/paths.h"
#include "convae/core/stopwatch.h"
#include "convae/core/text.h"
#include "convae/data/image_io.h"
#include "convae/data/listing.h"
#include "convae/data/shard_index.h"
#include "convae/data/tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

namespace convae {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kMostShards = 1'000'000;
constexpr std::int64_t kShardsAThread = 4;  // whose contents are held together
constexpr double kQuietSeconds = 1;         // as long no progress is shown

/// "{000..146}" in a text.
struct Range {
  std::size_t begin = 0, end = 0;
  std::int64_t first = 0, last = 0;
  std::size_t width = 0;  // digits, with zeros in front
};

std::optional<Range> find_range(std::string_view text) {
  for (std::size_t open = text.find('{'); open != std::string_view::npos;
       open = text.find('{', open + 1)) {
    const std::size_t close = text.find('}', open), dots = text.find("..", open);
    if (close == std::string_view::npos || dots == std::string_view::npos || dots > close) continue;
    const std::string_view low = text.substr(open + 1, dots - open - 1);
    const std::string_view high = text.substr(dots + 2, close - dots - 2);
    const auto first = parse_as<std::int64_t>(low), last = parse_as<std::int64_t>(high);
    if (!first || !last || *first < 0 || *last < 0) continue;
    const bool padded = (low.size() > 1 && low[0] == '0') || (high.size() > 1 && high[0] == '0');
    return Range{open, close + 1, *first, *last, padded ? std::max(low.size(), high.size()) : 1};
  }
  return std::nullopt;
}

void expand(const std::string& text, std::vector<fs::path>& paths) {
  const auto range = find_range(text);
  if (!range) {
    paths.emplace_back(text);
    return;
  }
  const auto steps = range->last - range->first;
  require_option(steps >= 0 && steps < kMostShards - std::ssize(paths),
                 "shards " + in_quotes(text) + ": expected a range that counts up, to at most " +
                     std::to_string(kMostShards) + " shards, such as x-{000..146}.tar");
  for (std::int64_t i = 0; i <= steps; ++i) {
    expand(text.substr(0, range->begin) + fmt::format("{:0{}}", range->first + i, range->width) +
               text.substr(range->end),
           paths);
  }
}

/// Path of a shard below the folder that all of them are in, without its ending: what goes before
/// names that several shards have.
std::vector<std::string> stems_of(const std::vector<fs::path>& shards) {
  fs::path above = shards[0].parent_path();
  const auto is_above = [&](const fs::path& shard) { return lies_below(shard, above); };
  while (!std::ranges::all_of(shards, is_above)) above = above.parent_path();
  std::vector<std::string> stems;
  stems.reserve(shards.size());
  for (const fs::path& shard : shards) {
    stems.push_back(
        shard.lexically_relative(above.empty() ? "." : above).replace_extension().generic_string());
  }
  return stems;
}

const char* why_not_read(TarMember::Kind kind) {
  switch (kind) {
    case TarMember::Kind::link: return "a link, which shards cannot have";
    case TarMember::Kind::sparse: return "a sparse member, whose bytes are not in one piece";
    default: return "not a regular file";
  }
}

/// Goes through the members of all shards, and then takes those that are images of the task.
class ShardLister {
public:
  ShardLister(ImageFolder& folder, const std::vector<fs::path>& shards, const ShardOptions& options)
      : folder_(folder),
        shards_(shards),
        stems_(stems_of(shards)),
        chosen_(options.globs),
        prefix_(options.prefix),
        callbacks_(options.callbacks),
        index_(std::make_shared<ShardIndex>(options.index)) {
    for (ImageFiles* files : {&folder.files, &found_}) {
      for (const fs::path& shard : shards) files->add_source(shard, 0);  // numbered from 0
    }
  }

  void list() {
    read_all();
    if (!results_.empty()) {
      found_.take_if([&](std::size_t i) { return is_in_results(std::string(found_.name(i))); });
    }
    take_each_once();
    folder_.shards = shards_;
    folder_.unused_members = members_ - std::ssize(folder_.files);
    std::ranges::sort(folder_.skipped, {}, &SkippedFile::name);
    for (const auto& [name, reason] : verdicts_) {
      if (!reason.empty()) folder_.left_out.push_back({prefix_ + name, reason});
    }
    folder_.unmatched = chosen_.unmatched();
    folder_.keep_members = [index = index_] { index->save(); };
  }

private:
  /// What a shard holds.
  struct Read {
    TarContents contents;
    std::string error;  // why it cannot be read
  };

  /// On several threads, which mostly wait for the disk; adds the shards in their order.
  void read_all() {
    const Stopwatch time;
    const std::int64_t threads = worker_count(-1), count = std::ssize(shards_);
    const std::int64_t together = kShardsAThread * threads;
    for (std::int64_t first = 0; first < count; first += together) {
      std::vector<Read> read(static_cast<std::size_t>(std::min(together, count - first)));
      std::atomic<std::size_t> next = 0;
      const auto work = [&] {
        for (std::size_t i = next++; i < read.size(); i = next++) {
          read[i] = read_one(shards_[static_cast<std::size_t>(first) + i]);
        }
      };
      {
        const auto helpers = start_threads(std::min(threads, std::ssize(read)) - 1, work);
        work();
      }
      for (std::size_t i = 0; i < read.size(); ++i) {
        add(static_cast<std::uint32_t>(first) + static_cast<std::uint32_t>(i), read[i]);
      }
      if (time.seconds() < kQuietSeconds) continue;
      callbacks_.show("shards", std::min(first + together, count), count);
      if (callbacks_.stopped()) {
        throw Interrupted(fmt::format("stopped while reading what {} shards hold", count));
      }
    }
  }

  Read read_one(const fs::path& path) const try {
    return {index_->contents_of(path), ""};
  } catch (const std::exception& error) {
    return {{}, error.what()};
  }

  void add(std::uint32_t shard, const Read& read) {
    const std::string name = shards_[shard].filename().string();
    if (!read.error.empty()) return skip(name, read.error);
    try {
      const InputFile file(shards_[shard]);
      const TarContents& contents = read.contents;
      for (const TarMember& member : contents.members) add(member, shard, file);
      if (contents.damage.empty()) return;
      skip(name, fmt::format("{}: its {} members before that are used", contents.damage,
                             contents.members.size()));
    } catch (const std::exception& error) {
      skip(name, error.what());
    }
  }

  void add(const TarMember& member, std::uint32_t shard, const InputFile& file) {
    if (member.kind == TarMember::Kind::folder) return;
    ++members_;
    const std::string name = fs::path(member.name).lexically_normal(), ending = ending_of(name);
    const bool is_file = member.kind == TarMember::Kind::file;
    if (leads_out(member.name)) {
      skip(member.name, "its name has '..' or is absolute, as if it leads out of the shard " +
                            in_quotes(shards_[shard].filename()));
    } else if (name.size() + prefix_.size() + stems_[shard].size() >= ImageFiles::kLongestName) {
      skip(name.substr(0, 100) + "…", "its name is too long");
    } else if (!may_be_a_file(name)) {
      skip(name.substr(0, 100) + "…", "no file can have its name");
    } else if (name.starts_with('.') || name.find("/.") != std::string::npos) {
      ++folder_.passed_over["hidden"];
    } else if (is_in_masks(name)) {
      return;
    } else if (ending.empty() ? !is_file || !begins_as_an_image(file, member)
                              : !is_image_ending(ending)) {
      ++folder_.passed_over[!is_file         ? "not a regular file"
                            : ending.empty() ? "without an ending"
                                             : ending];
      note_result(name, shard, member);
    } else if (!is_file) {
      skip(name, why_not_read(member.kind));
    } else {
      found_.add(name, shard, member.offset, member.size);
      note_result(name, shard, member);
    }
  }

  static bool may_be_a_file(const std::string& name) {
    return !name.empty() && !name.ends_with('/') && name.find('\0') == std::string::npos &&
           std::ranges::all_of(fs::path(name), [](const fs::path& part) {
             return part.native().size() <= kMaxNameBytes;
           });
  }

  static bool begins_as_an_image(const InputFile& file, const TarMember& member) {
    std::array<std::uint8_t, 16> head{};
    const auto most = std::min<std::int64_t>(member.size, std::ssize(head));
    const auto got = static_cast<std::size_t>(file.read_at(member.offset, head.data(), most));
    return is_image_start({head.data(), got});
  }

  /// Calls `is_that` with the folders that a name is in, from the top; true where one is.
  static bool is_in_one(const std::string& name, const auto& is_that) {
    for (std::size_t slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      if (is_that(name.substr(0, slash))) return true;
    }
    return false;
  }

  bool is_in_masks(const std::string& name) {
    return is_in_one(name, [&](const std::string& folder) {
      const auto [verdict, is_new] = verdicts_.try_emplace(folder);
      const std::string own_name = folder.substr(folder.rfind('/') + 1);
      if (is_new && is_mask_folder(own_name, chosen_)) verdict->second = "masks";
      return !verdict->second.empty();
    });
  }

  bool is_in_results(const std::string& name) {
    return is_in_one(name, [&](const std::string& folder) {
      std::string& verdict = verdicts_[folder];
      if (!verdict.empty() || !looked_at_.insert(folder).second) return !verdict.empty();
      const bool is_part = is_part_of_results(folder) && !chosen_.names_folder(folder);
      if (has_results(folder + "/") || (is_part && has_results(""))) verdict = "results of convae";
      return !verdict.empty();
    });
  }

  /// `folder`: with a slash; "": that of all members.
  bool has_results(const std::string& folder) const {
    return holds_results(
        [&](const std::string& name) { return results_.contains(folder + name); },
        [&](const std::string& name) {
          const ImageFile& file = results_.at(folder + name);
          std::string begin(static_cast<std::size_t>(std::min<std::int64_t>(file.size, 80)), '\0');
          InputFile(file.path).read_at(file.offset, begin.data(), std::ssize(begin));
          return begin;
        });
  }

  /// Of files, and of the folders they are in, that may be results of convae.
  void note_result(const std::string& name, std::uint32_t shard, const TarMember& member) {
    const auto note = [&](const std::string& path) {
      if (names_of_results().contains(path.substr(path.rfind('/') + 1))) {
        results_[path] = {path, shards_[shard], member.offset, member.size};
      }
      return false;
    };
    note(name);
    is_in_one(name, note);
  }

  /// Names that several shards have get each shard's stem in front; of one that a shard has twice,
  /// the last counts, as when it is unpacked.
  void take_each_once() {
    found_.sort();  // those of one name stay in order
    for (std::size_t i = 0, end = 0; i < found_.size(); i = end) {
      while (end < found_.size() && found_.name(end) == found_.name(i)) ++end;
      const bool is_shared = found_.source(i) != found_.source(end - 1);
      for (std::size_t j = i; j < end; ++j) {
        if (j + 1 < end && found_.source(j + 1) == found_.source(j)) {
          skip(std::string(found_.name(j)), "a later member of that name counts");
        } else {
          take(j, is_shared ? stems_[found_.source(j)] + "/" : "");
        }
      }
    }
    folder_.files.sort();
    std::string before;
    folder_.files.take_if([&](std::size_t place) {
      const std::string name(folder_.files.name(place));
      const bool is_double = name == std::exchange(before, name);
      if (is_double) folder_.skipped.push_back({name, "another member has that name"});
      return is_double;
    });
  }

  void take(std::size_t place, const std::string& stem) {
    const ImageFile image = found_[place];
    const std::string name = prefix_ + stem + image.name;
    if (chosen_.takes(name)) {
      folder_.files.add(name, found_.source(place), image.offset, image.size);
    } else {
      ++folder_.excluded;
    }
  }

  void skip(const std::string& name, const std::string& reason) {
    folder_.skipped.push_back({prefix_ + name, reason});
  }

  ImageFolder& folder_;
  const std::vector<fs::path>& shards_;
  std::vector<std::string> stems_;
  Chosen chosen_;
  std::string prefix_;
  const Callbacks& callbacks_;
  std::shared_ptr<ShardIndex> index_;
  std::int64_t members_ = 0;                     // of all shards, without folders
  ImageFiles found_;                             // by shard, in the order of its members
  std::map<std::string, std::string> verdicts_;  // why a folder is left out; empty: it is not
  std::set<std::string> looked_at_;              // folders, for results
  std::map<std::string, ImageFile> results_;     // what may be some, by name
};

}  // namespace

bool is_shard_name(const fs::path& path) {
  std::string name = path.filename().string();
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  constexpr std::string_view kEndings[] = {".tar",     ".tgz",    ".tbz",     ".tbz2",   ".txz",
                                           ".tzst",    ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst",
                                           ".tar.lz4", ".tar.lz", ".tar.z"};
  return std::ranges::any_of(kEndings,
                             [&](std::string_view ending) { return name.ends_with(ending); });
}

std::vector<fs::path> shards_named(const fs::path& data) {
  std::error_code error;
  const fs::file_status status = fs::status(data, error);
  if (fs::is_regular_file(status))
    return is_shard_name(data) ? std::vector{data} : std::vector<fs::path>{};
  if (fs::exists(status) || !find_range(data.string())) return {};
  std::vector<fs::path> shards;
  expand(data.string(), shards);
  return shards;
}

ImageFolder list_shards(const fs::path& root, const std::vector<fs::path>& shards,
                        const ShardOptions& options) {
  for (const fs::path& shard : shards) {
    if (!is_there(shard)) {
      throw std::runtime_error("the shard " + in_quotes(shard) + " of " + in_quotes(root) +
                               " does not exist");
    }
  }
  ImageFolder folder;
  folder.root = root;
  ShardLister(folder, shards, options).list();
  return folder;
}

}  // namespace convae
