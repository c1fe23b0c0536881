#include "convae/data/dataset.h"

#include "convae/core/files.h"
#include "convae/core/machine.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace convae {
namespace {

// A JPEG's header is in the first kilobytes; other formats may have parts of it at the end.
constexpr std::int64_t kJpegHeaderBytes = 256 << 10;

bool is_jpeg(const std::vector<std::uint8_t>& bytes) {
  return bytes.size() > 2 && bytes[0] == 0xff && bytes[1] == 0xd8;
}

ImageInfo probe_file(const std::filesystem::path& path, std::int64_t max_pixels) {
  std::error_code error;
  const auto file_bytes = std::filesystem::file_size(path, error);
  if (!error && file_bytes > static_cast<std::uintmax_t>(kJpegHeaderBytes)) {
    std::vector<std::uint8_t> head(kJpegHeaderBytes);
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(head.data()), kJpegHeaderBytes);
    head.resize(static_cast<std::size_t>(file.gcount()));
    if (is_jpeg(head)) {
      try {
        return probe_image(head, max_pixels);
      } catch (const ImageError&) {
        // The header may be larger: read the whole file.
      }
    }
  }
  return probe_image(read_file(path), max_pixels);
}

std::int64_t decoded_bytes(const std::vector<ImageEntry>& entries, Size size,
                           std::int64_t channels) {
  std::int64_t total = 0;
  for (const ImageEntry& entry : entries) {
    const Size stored = size.h > 0 ? size : entry.file_size();
    total += stored.h * stored.w * channels * (entry.info.bits / 8);
  }
  return total;
}

}  // namespace

bool all_grey(const std::vector<ImageEntry>& entries) {
  return std::ranges::all_of(entries, [](const auto& entry) { return entry.info.channels == 1; });
}

FoundImages scan_headers(const ImageFolder& folder, std::int64_t max_pixels, std::int64_t workers) {
  const std::size_t count = folder.files.size();
  std::vector<std::optional<ImageInfo>> infos(count);
  std::vector<std::string> reasons(count);
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        infos[i] = probe_file(folder.files[i].path, max_pixels);
      } catch (const std::exception& error) {
        reasons[i] = error.what();
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    // A thread costs about as much as reading a few dozen small headers.
    const std::size_t helpers = std::min<std::size_t>(workers > 0 ? workers - 1 : 0, count / 64);
    for (std::size_t i = 0; i < helpers; ++i) threads.emplace_back(work);
    work();
  }
  FoundImages found{folder.root, {}, folder.skipped};
  for (std::size_t i = 0; i < count; ++i) {
    if (infos[i]) {
      found.entries.push_back({folder.files[i], *infos[i]});
    } else {
      found.skipped.push_back({folder.files[i].name, reasons[i]});
    }
  }
  return found;
}

bool in_validation_share(const std::string& group, double share) {
  const std::uint64_t hash = XXH3_64bits(group.data(), group.size());
  return static_cast<double>(hash >> 11) * 0x1.0p-53 < share;
}

ImageDataset::ImageDataset(std::vector<ImageEntry> entries, const Options& options)
    : entries_(std::move(entries)),
      options_(options),
      kept_(entries_.size()),
      bad_(entries_.size(), false) {
  keep_ = options.cache == Cache::ram ||
          (options.cache == Cache::automatic &&
           decoded_bytes(entries_, options.size, options.channels) < free_memory_bytes() / 2);
}

Size ImageDataset::image_size(std::int64_t index) const {
  return options_.crop   ? options_.crop
         : options_.size ? options_.size
                         : entries_[index].file_size();
}

bool ImageDataset::cached(std::int64_t index) const {
  std::lock_guard lock(mutex_);
  return kept_[index].has_value() || bad_[index];
}

torch::Tensor ImageDataset::decode(std::int64_t index) {
  const ImageEntry& entry = entries_[index];
  const bool resized = options_.size.h > 0;
  const int reduction = resized ? decoding_reduction(entry.info, options_.size) : 1;
  std::int64_t clipped = 0;
  const torch::Tensor image =
      decode_image(read_file(entry.file.path), static_cast<int>(options_.channels),
                   options_.max_pixels, reduction, options_.value_range, &clipped);
  const auto reduced = [&](std::int64_t side) { return (side + reduction - 1) / reduction; };
  if (image.size(1) != reduced(entry.info.height) || image.size(2) != reduced(entry.info.width)) {
    throw ImageError("its size changed since it was listed");
  }
  if (clipped > 0) {
    std::lock_guard lock(mutex_);
    clipped_[index] = clipped;
  }
  return resized ? resize_image(image, options_.size.h, options_.size.w) : image;
}

std::optional<torch::Tensor> ImageDataset::load(std::int64_t index) {
  {
    std::lock_guard lock(mutex_);
    if (bad_[index]) return std::nullopt;
    if (kept_[index]) return kept_[index];
  }
  try {
    torch::Tensor image = decode(index);
    if (keep_) {
      std::lock_guard lock(mutex_);
      kept_[index] = image;
    }
    return image;
  } catch (const std::exception& error) {
    const SkippedFile bad{entries_[index].file.name, error.what()};
    if (!options_.skip_bad) throw std::runtime_error(in_quotes(bad.name) + ": " + bad.reason);
    std::lock_guard lock(mutex_);
    if (!bad_[index]) {
      bad_[index] = true;
      bad_files_.push_back(bad);
      if (on_bad_file) on_bad_file(bad);
    }
    return std::nullopt;
  }
}

std::string ImageDataset::clipped_line() const {
  std::lock_guard lock(mutex_);
  if (clipped_.empty()) return "";
  double values = 0, all = 0;
  for (const auto& [index, count] : clipped_) {
    const Size size = entries_[index].file_size();
    values += static_cast<double>(count);
    all += static_cast<double>(size.h * size.w * options_.channels);
  }
  return fmt::format(
      "{} of {} images have values outside the value range {}: {:.0f} ({:.2g} % of "
      "theirs) were clipped",
      clipped_.size(), entries_.size(), to_string(options_.value_range), values,
      100 * values / all);
}

std::vector<SkippedFile> ImageDataset::bad_files() const {
  std::lock_guard lock(mutex_);
  return bad_files_;
}

torch::Tensor crop_image(const torch::Tensor& image, Size crop, std::int64_t top,
                         std::int64_t left) {
  return image.narrow(1, top, crop.h).narrow(2, left, crop.w);
}

}  // namespace convae
