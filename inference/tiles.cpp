#include "convae/inference/tiles.h"

#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/windows.h"
#include "convae/inference/folder.h"
#include "convae/training/collective.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace convae {
namespace {

constexpr std::int64_t kUsualSide = 1024;  // margins of the default network add an eighth
constexpr std::int64_t kSmallestSide = 32;
/// Of the memory that is free, for a tile in the network, and for the rows of a picture that are
/// kept for tiles side by side: files want theirs.
constexpr double kShareOfTile = 0.25, kShareOfRows = 0.5;
/// Decoding, see decode_image(), and a few copies as floats.
constexpr double kBytesToDecode = 16;

constexpr double kGigabyte = 1e9;

/// Nothing where pictures can come in tiles.
std::optional<std::string> why_whole(const ModelOptions& model, const DataOptions& data,
                                     const std::string& never) {
  if (const auto reason = why_not_in_tiles(model)) return reason;
  if (data.size) return "--size resizes whole pictures";
  return never.empty() ? std::nullopt : std::optional(never);
}

}  // namespace

void require_tiles(std::int64_t side, const ModelOptions& model, const DataOptions& data,
                   const std::string& never) {
  const std::string option = fmt::format("--tile '{}': ", side);
  const std::optional<std::string> reason = why_whole(model, data, never);
  require_option(!reason, option + reason.value_or("") + "; leave --tile out");
  require_option(side >= kSmallestSide,
                 option + fmt::format("expected auto or a side of at least {}", kSmallestSide));
  require_option(side <= data.max_pixels / side,
                 option + fmt::format("a tile has more than --max-pixels {}", data.max_pixels));
}

TilePlan::TilePlan(const Model& model, const FolderOptions& options, Job job)
    : model_(model.options()),
      job_(std::move(job)),
      asked_(options.tile),
      max_pixels_(options.data.max_pixels),
      free_bytes_(static_cast<double>(least_of_ranks(free_memory_bytes()))) {
  is_active_ = !why_whole(model_, options.data, job_.never);
  side_ = asked_.value_or(0);
  if (side_ != 0) {
    require_tiles(side_, model_, options.data, job_.never);
  } else if (is_active_) {
    side_ = choose_side(/*width=*/0, /*bytes_a_value=*/1);
  }
}

double TilePlan::bytes_for(Size size) const {
  // Twice what is held at least, as for batches.
  return 2 * static_cast<double>(model_.inference_bytes_per_image(size)) +
         (kBytesToDecode + static_cast<double>(job_.bytes_a_pixel)) *
             static_cast<double>(size.area());
}

std::int64_t TilePlan::side(const ImageEntry& picture) const {
  if (asked_.value_or(0) > 0) return side_;
  return choose_side(picture.info.width, picture.info.bits > 8 ? 2 : 1);
}

std::int64_t TilePlan::choose_side(std::int64_t width, std::int64_t bytes_a_value) const {
  const Tiling tiling(model_, job_.result);
  const std::int64_t grid = std::min(std::lcm(tiling.grid().h, tiling.grid().w), kMaxSide);
  const auto most = [&](double share) {
    return free_bytes_ == 0 ? std::numeric_limits<double>::infinity() : share * free_bytes_;
  };
  std::int64_t smallest = 0;  // nothing is gained by tiles
  for (std::int64_t side = kUsualSide; side >= kSmallestSide; side /= 2) {
    const std::int64_t whole_grid = (side + grid - 1) / grid * grid;
    const std::int64_t middle = kMaxSide / 2 / grid * grid;
    const auto tile = [&](std::int64_t scale) {
      return Span{middle / scale, (middle + whole_grid) / scale};
    };
    const Region part{tile(tiling.scale().h), tile(tiling.scale().w)};
    const Size window = tiling.window(part, {kMaxSide, kMaxSide}).size();
    const std::int64_t values = model_.channels * bytes_a_value * window.h;
    const double rows =
        static_cast<double>(width) * static_cast<double>(values + job_.bytes_written * whole_grid);
    if (bytes_for(window) > most(kShareOfTile) || whole_grid > max_pixels_ / whole_grid) continue;
    if (rows <= most(kShareOfRows)) return whole_grid;
    smallest = whole_grid;
  }
  return smallest;
}

bool TilePlan::takes(Size size) const {
  if (!is_active_ || side_ == 0) return false;
  if (asked_.value_or(0) > 0) return size.h > side_ || size.w > side_;
  const bool is_too_much = free_bytes_ > 0 && bytes_for(size) > free_bytes_;
  return size.area() > max_pixels_ || is_too_much;
}

std::optional<std::string> TilePlan::refusal(const ImageEntry& picture) const {
  const auto reason = why_too_large(picture.file_size(), max_pixels_);
  if (!reason || (takes(picture.file_size()) && reads_in_parts(picture.file))) return std::nullopt;
  return reason;
}

void TilePlan::require_memory_to_decode(const ImageEntry& picture) const {
  // As measured: what the codec has, the picture and, if it is turned, another.
  constexpr double kBytesAByte = 3;
  const double needed = kBytesAByte * static_cast<double>(model_.channels) *
                        (picture.info.bits / 8.0) * static_cast<double>(picture.file_size().area());
  if (free_bytes_ == 0 || needed <= free_bytes_ || reads_in_parts(picture.file)) return;
  throw std::runtime_error(fmt::format(
      "{} can only be decoded as a whole, which takes {:.1f} GB, but {:.1f} GB are free{}; write "
      "it as a tiled TIFF, or leave it out with --exclude",
      in_quotes(picture.file.name), needed / kGigabyte, free_bytes_ / kGigabyte,
      limit_text(needed)));
}

std::string TilePlan::line(const ImageEntries& pictures) const {
  std::int64_t count = 0;
  ImageEntry largest;
  for (const ImageEntry& picture : pictures) {
    if (!takes(picture.file_size())) continue;
    ++count;
    if (picture.file_size().area() > largest.file_size().area()) largest = picture;
  }
  if (count == 0) return "";
  const Size size = largest.file_size();
  const std::int64_t of_tile = side(largest);
  std::string text =
      fmt::format("{} of {} images in tiles of {}x{}: {} has {} pixels", count, pictures.size(),
                  of_tile, of_tile, in_quotes(largest.file.name), to_string(size));
  if (asked_.value_or(0) > 0) return text;
  if (size.area() > max_pixels_) return text + fmt::format(", above --max-pixels {}", max_pixels_);
  return text + fmt::format(", which would take {:.1f} GB as a whole; {:.1f} GB are free",
                            bytes_for(size) / kGigabyte, free_bytes_ / kGigabyte);
}

void for_each_tile(Size result, Size tile, const std::function<void(const Region&)>& use) {
  for (std::int64_t y = 0; y < result.h; y += tile.h) {
    for (std::int64_t x = 0; x < result.w; x += tile.w) {
      use({{y, std::min(y + tile.h, result.h)}, {x, std::min(x + tile.w, result.w)}});
    }
  }
}

std::int64_t tile_count(Size result, Size tile) {
  return ((result.h + tile.h - 1) / tile.h) * ((result.w + tile.w - 1) / tile.w);
}

}  // namespace convae
