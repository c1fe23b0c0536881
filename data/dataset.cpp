#include "convae/data/dataset.h"

#include "convae/core/files.h"
#include "convae/core/machine.h"
#include "convae/core/mapped_file.h"
#include "convae/core/parallel.h"
#include "convae/core/stopwatch.h"
#include "convae/data/header_bytes.h"
#include "convae/data/header_index.h"
#include "convae/data/windows.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <thread>

namespace convae {
namespace {

/// Reading is tried again after so many milliseconds where it failed for a reason that may pass.
constexpr int kPauses[] = {50, 200};

template <typename Read>
auto read_patiently(const Read& read) {
  for (const int pause : kPauses) {
    try {
      return read();
    } catch (const std::exception& error) {
      if (!may_pass(error)) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(pause));
  }
  return read();
}

/// use(bytes) of a file. A stack of many pages may be larger than memory: large files are mapped.
template <typename Use>
auto with_bytes(const ImageFile& file, const Use& use) {
  constexpr std::int64_t kLarge = 64 << 20;
  InputFile whole = open_image(file);
  if (whole.size() <= kLarge) return use(read_file(whole));
  return use(MappedFile(std::move(whole)).bytes());
}

/// Whatever its size, which is checked afterwards: a file that is too large is not read whole.
ImageInfo probe_file(const ImageFile& file) {
  constexpr std::int64_t kAnySize = std::numeric_limits<std::int64_t>::max();
  const HeaderBytes header(file);
  if (!header.bytes().empty()) {
    try {
      return probe_image(header.bytes(), kAnySize);
    } catch (const ImageError&) {
      // The whole file says what is wrong, or that nothing is.
    }
  }
  return with_bytes(
      file, [](std::span<const std::uint8_t> bytes) { return probe_image(bytes, kAnySize); });
}

/// As long as it takes at most, no progress is shown.
constexpr double kSilentSeconds = 1;

/// The headers of a folder's files, read on several threads.
class HeaderScan {
public:
  HeaderScan(ImageFolder folder, const std::string& index, const Callbacks& callbacks)
      : folder_(std::move(folder)),
        files_(folder_.files),
        index_(index, folder_.root),
        callbacks_(callbacks),
        stamps_(files_.size()),
        infos_(files_.size()) {
    for (const auto& shard : folder_.shards) shard_stamps_.push_back(HeaderIndex::stamp(shard));
  }

  FoundImages run(std::int64_t max_pixels, std::int64_t workers) {
    const std::int64_t count = std::ssize(stamps_);
    {
      // A thread costs about as much as reading a few dozen small headers.
      const std::int64_t helpers = std::min(std::max<std::int64_t>(workers - 1, 0), count / 64);
      const auto threads = start_threads(helpers, [this] {
        while (read_next()) continue;
      });
      const Stopwatch time;
      while (read_next()) {
        if (time.seconds() < kSilentSeconds) continue;
        callbacks_.show("headers", std::min<std::int64_t>(next_, count), count);
        if (callbacks_.stopped()) {
          next_ = count;
          throw Interrupted(fmt::format("stopped while reading the headers of {} files", count));
        }
      }
    }
    return found(max_pixels);
  }

private:
  bool read_next() {
    const std::int64_t next = next_++;
    if (next >= std::ssize(stamps_)) return false;
    const auto i = static_cast<std::size_t>(next);
    const ImageFile file = files_[i];
    stamps_[i] =
        file.is_in_shard() ? shard_stamps_[files_.source(i)] : HeaderIndex::stamp(file.path);
    try {
      std::optional<ImageInfo> info = index_.find(file.name, stamps_[i]);
      if (!info) {
        info = read_patiently([&] { return probe_file(file); });
        ++new_;
      }
      std::unique_lock lock(mutex_, std::defer_lock);
      if (!info->remark.empty()) lock.lock();
      infos_.set(i, *info);
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex_);
      reasons_[i] = error.what();
      stamps_[i] = 0;  // to be read again
    }
    return true;
  }

  FoundImages found(std::int64_t max_pixels) {
    FoundImages found{folder_.root, {}, std::move(folder_.skipped)};
    if (new_ > 0) {
      found.keep_headers = [index = std::move(index_), files = files_,
                            stamps = std::exchange(stamps_, {}),
                            infos = infos_] { index.save(files, stamps, infos); };
    }
    ImageEntries all(std::move(folder_.files), std::move(infos_));
    all.take_if([&](std::size_t i) {
      const auto known = reasons_.find(i);
      const auto reason = known == reasons_.end() ? why_too_large(all.infos().size(i), max_pixels)
                                                  : std::optional(known->second);
      if (reason) found.skipped.push_back({all.name(i), *reason});
      return reason.has_value();
    });
    found.entries = std::move(all);
    return found;
  }

  ImageFolder folder_;
  const ImageFiles& files_;
  HeaderIndex index_;
  const Callbacks& callbacks_;
  std::atomic<std::int64_t> next_ = 0;
  std::atomic<std::int64_t> new_ = 0;  // that were not in the index
  std::vector<std::uint64_t> stamps_, shard_stamps_;
  ImageInfos infos_;
  std::mutex mutex_;                            // guards remarks in infos_, and:
  std::map<std::size_t, std::string> reasons_;  // why a file cannot be used
};

/// A part (C, h, w) of an image, so that the rest of it can go.
torch::Tensor apart(const torch::Tensor& part) {
  return part.permute({1, 2, 0}).clone(at::MemoryFormat::Contiguous).permute({2, 0, 1});
}

}  // namespace

bool all_grey(const ImageEntries& entries) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries.infos().channels(i) != 1) return false;
  }
  return true;
}

FoundImages scan_headers(ImageFolder folder, std::int64_t max_pixels, std::int64_t workers,
                         const std::string& index, const Callbacks& callbacks) {
  return HeaderScan(std::move(folder), index, callbacks).run(max_pixels, workers);
}

bool in_validation_share(const std::string& group, double share) {
  const std::uint64_t hash = XXH3_64bits(group.data(), group.size());
  return static_cast<double>(hash >> 11) * 0x1.0p-53 < share;
}

ImageDataset::ImageDataset(ImageEntries entries, const Options& options)
    : entries_(std::move(entries)), options_(options), states_(entries_.size(), State::good) {
  cache_within(free_memory_bytes() / 2);
}

std::int64_t ImageDataset::cache_within(std::int64_t bytes) {
  std::int64_t all = 0;
  for (std::int64_t i = 0; i < size(); ++i) all += is_cut_from_file(i) ? 0 : stored_bytes(i);
  keep_ = options_.cache == Cache::ram || (options_.cache == Cache::automatic && all < bytes);
  kept_.resize(keep_ ? entries_.size() : 0);
  return keep_ ? all : 0;
}

/// Of a decoded image: 8 bits become 16 in a range, see decode_image().
std::int64_t ImageDataset::bytes_per_value(std::int64_t index) const {
  const int bytes = entries_.infos().bits(index) / 8;
  return options_.value_range.is_fixed() ? std::max(bytes, 2) : bytes;
}

std::int64_t ImageDataset::decoded_values(std::int64_t index) const {
  Size own = entries_.infos().size(index);
  if (is_cut_from_file(index)) own.h = options_.crop.h;  // its rows
  if (options_.size) {
    const int reduction = decoding_reduction(entries_.infos()[index], options_.size);
    own = {own.h / reduction, own.w / reduction};
  }
  return own.h * own.w * options_.channels;
}

std::int64_t ImageDataset::decoded_bytes(std::int64_t index) const {
  const ImageInfo info = entries_.infos()[index];
  // What the codec gave goes when it is in its range and upright, each of which takes a copy.
  const bool is_placed = options_.value_range.is_fixed() && numbers_type(info) != at::kFloat;
  const bool is_turned = info.orientation != 1;
  return decoded_values(index) *
         (bytes_per_value(index) * (is_turned ? 2 : 1) + (is_placed ? info.bits / 8 : 0));
}

std::int64_t ImageDataset::stored_bytes(std::int64_t index) const {
  if (!options_.size) return decoded_values(index) * bytes_per_value(index);
  return options_.size.h * options_.size.w * options_.channels * bytes_per_value(index);
}

Size ImageDataset::image_size(std::int64_t index) const {
  return options_.crop   ? options_.crop
         : options_.size ? options_.size
                         : entries_.infos().size(index);
}

bool ImageDataset::cached(std::int64_t index) const {
  std::lock_guard lock(mutex_);
  return (keep_ && kept_[index]) || states_[index] == State::bad;
}

torch::Tensor ImageDataset::decode(std::int64_t index) {
  const ImageEntry entry = entries_[index];
  const bool resized = options_.size.h > 0;
  const int reduction = resized ? decoding_reduction(entry.info, options_.size) : 1;
  std::int64_t clipped = 0;
  const torch::Tensor image = with_bytes(entry.file, [&](std::span<const std::uint8_t> bytes) {
    return decode_image(bytes, static_cast<int>(options_.channels), options_.max_pixels, reduction,
                        options_.value_range, &clipped);
  });
  const auto reduced = [&](std::int64_t side) { return (side + reduction - 1) / reduction; };
  if (image.size(1) != reduced(entry.info.height) || image.size(2) != reduced(entry.info.width)) {
    throw ImageError("its size changed since it was listed");
  }
  if (clipped > 0) {
    std::lock_guard lock(mutex_);
    clipped_[index] = {clipped, image.numel()};
  }
  return resized ? resize_image(image, options_.size.h, options_.size.w) : image;
}

std::vector<std::string> ImageDataset::names() const {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < size(); ++i) names.push_back(name(i));
  return names;
}

bool ImageDataset::is_cut_from_file(std::int64_t index) const {
  return options_.crop && !options_.size &&
         entries_.infos().size(index).area() > options_.max_pixels;
}

torch::Tensor ImageDataset::decode_crop(std::int64_t index,
                                        const std::function<Size(Size free)>& place) {
  const ImageEntry& entry = entries_[index];
  const Size own = entry.file_size(), crop = options_.crop;
  ImageWindows picture(entry.file, static_cast<int>(options_.channels), options_.max_pixels,
                       options_.value_range);
  if (picture.size() != own) throw ImageError("its size changed since it was listed");
  const Size at = place({own.h - crop.h, own.w - crop.w});
  const torch::Tensor image = picture.read({{at.h, at.h + crop.h}, {at.w, at.w + crop.w}});
  if (picture.clipped() > 0) {
    std::lock_guard lock(mutex_);
    clipped_[index] = {picture.clipped(), picture.decoded()};
  }
  return apart(image);
}

std::optional<torch::Tensor> ImageDataset::load_crop(std::int64_t index,
                                                     const std::function<Size(Size free)>& place) {
  if (is_cut_from_file(index)) {
    return attempt(index, [&] { return decode_crop(index, place); });
  }
  const std::optional<torch::Tensor> image = load(index);
  if (!image) return image;
  const Size crop = options_.crop;
  const Size at = place({image->size(1) - crop.h, image->size(2) - crop.w});
  const torch::Tensor part = image->narrow(1, at.h, crop.h).narrow(2, at.w, crop.w);
  return keep_ ? part : apart(part);
}

std::optional<torch::Tensor> ImageDataset::load(std::int64_t index) {
  if (is_cut_from_file(index)) {
    return load_crop(index, [](Size free) { return Size{free.h / 2, free.w / 2}; });
  }
  return attempt(index, [&] { return decode(index); });
}

std::optional<torch::Tensor> ImageDataset::attempt(std::int64_t index,
                                                   const std::function<torch::Tensor()>& read) {
  {
    std::lock_guard lock(mutex_);
    if (states_[index] == State::bad) return std::nullopt;
    if (keep_ && kept_[index]) return kept_[index];
  }
  try {
    torch::Tensor image = read_patiently(read);
    std::lock_guard lock(mutex_);
    if (keep_ && !is_cut_from_file(index)) kept_[index] = image;
    if (states_[index] == State::failing) {
      std::erase_if(bad_files_, [&](const auto& bad) { return bad.name == name(index); });
      states_[index] = State::good;
    }
    return image;
  } catch (const std::exception& error) {
    note_failure(index, error);
    return std::nullopt;
  }
}

std::optional<std::vector<std::uint8_t>> ImageDataset::read_file_of(std::int64_t index) {
  try {
    return read_patiently([&] { return read_file(open_image(entries_[index].file)); });
  } catch (const std::exception& error) {
    note_failure(index, error);
    return std::nullopt;
  }
}

void ImageDataset::note_failure(std::int64_t index, const std::exception& error) {
  SkippedFile bad{name(index), first_line(error.what())};
  if (!options_.skip_bad) {
    throw std::runtime_error(in_quotes(bad.name) + ": " + bad.reason + " (--skip-bad is false)");
  }
  const bool passes = may_pass(error);
  if (passes) bad.reason += "; it is tried again when it is needed next";
  note_bad(index, bad, passes ? State::failing : State::bad);
}

std::string ImageDataset::clipped_line() const {
  std::lock_guard lock(mutex_);
  if (clipped_.empty()) return "";
  double values = 0, all = 0;
  for (const auto& [index, count] : clipped_) {
    values += static_cast<double>(count.clipped);
    all += static_cast<double>(count.decoded);
  }
  return fmt::format(
      "{} of {} images have values outside the value range {}: {:.0f} ({:.3g} % of "
      "theirs) were clipped",
      clipped_.size(), entries_.size(), to_string(options_.value_range), values,
      100 * values / all);
}

ImageDataset::Clipped ImageDataset::clipped() const {
  std::lock_guard lock(mutex_);
  return {clipped_.begin(), clipped_.end()};
}

void ImageDataset::note_clipped(const Clipped& elsewhere) {
  std::lock_guard lock(mutex_);
  clipped_.insert(elsewhere.begin(), elsewhere.end());
}

void ImageDataset::note_bad(std::int64_t index, const SkippedFile& bad, State state) {
  {
    std::lock_guard lock(mutex_);
    const State before = std::exchange(states_[index], std::max(state, states_[index]));
    if (before >= state) return;
    std::erase_if(bad_files_, [&](const auto& known) { return known.name == bad.name; });
    bad_files_.push_back(bad);
  }
  if (on_bad_file) on_bad_file(bad);  // which may ask for bad_files()
}

std::vector<SkippedFile> ImageDataset::bad_files() const {
  std::lock_guard lock(mutex_);
  return bad_files_;
}

}  // namespace convae
