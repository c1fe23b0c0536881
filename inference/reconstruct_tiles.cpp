#include "convae/inference/reconstruct_tiles.h"

#include "convae/data/picture_file.h"
#include "convae/data/pictures.h"
#include "convae/metrics/image_metrics.h"
#include "convae/metrics/similarity.h"
#include "convae/models/pixels.h"
#include "convae/models/tiling.h"

#include <algorithm>
#include <optional>

namespace convae {
namespace {

/// A tile, and so much of its neighbours that each place of the similarity's window that begins in
/// it is seen as a whole.
Region with_similarity(const Region& tile, Size picture) {
  constexpr std::int64_t kMore = kSimilarityWindow - 1;
  return {{tile.rows.begin, std::min(tile.rows.end + kMore, picture.h)},
          {tile.columns.begin, std::min(tile.columns.end + kMore, picture.w)}};
}

class TiledReconstruction {
public:
  TiledReconstruction(const ModelFolder& folder, std::int64_t index, ImageWindows& picture,
                      const TiledFiles& files, std::vector<std::string>& lost)
      : model_(folder.model()),
        picture_(picture),
        size_(picture.size()),
        name_(folder.name(index)),
        info_(folder.entry(index).info),
        keeps_format_(files.format == WriteAs::keep),
        tiling_(model_.options(), TiledResult::reconstruction) {
    const std::int64_t channels = model_.options().channels;
    PictureShape shape{size_, channels, at::kByte};
    if (keeps_format_) {
      shape.channels = std::min<std::int64_t>(channels, info_.channels);
      shape.type = numbers_type(info_);
      if (info_.alpha) lost.emplace_back("its alpha (written in tiles)");
      if (info_.channels > channels) lost.emplace_back("its colours (the model is grey)");
      shape.like = folder.entry(index).file;
    }
    const auto add = [&](std::optional<BandFile>& file, const std::filesystem::path& path,
                         const PictureShape& of, ImageFormat format = ImageFormat::png) {
      if (!path.empty()) file.emplace(path, format, of, &lost);
    };
    add(reconstruction_, files.reconstruction, shape,
        keeps_format_ ? info_.format : ImageFormat::png);
    const Size shown = shown_size(size_);
    add(grid_, files.grid, {{shown.h, 3 * shown.w + 2 * kPictureGap}, 3, at::kByte});
    add(error_map_, files.error_map, {size_, 3, at::kByte});
  }

  ImageQuality run(std::int64_t side, const Callbacks& callbacks) {
    const Size tile{side, side};
    const std::int64_t all = tile_count(size_, tile);
    std::int64_t done = 0;
    for_each_tile(size_, tile, [&](const Region& part) {
      if (callbacks.stopped()) throw Interrupted("stopped within " + in_quotes(name_));
      reconstruct(part);
      callbacks.show("tiles", ++done, all);
    });
    for (auto* file : {&reconstruction_, &grid_, &error_map_}) {
      if (*file) (*file)->commit();
    }
    return {name_, size_, mse_.mean(), psnr(mse_.mean()), ssim_.mean()};
  }

private:
  void reconstruct(const Region& part) {
    const Region seen = with_similarity(part, size_);
    const Region window = tiling_.window(seen, size_);
    const torch::Tensor input = to_float(picture_.read(window).unsqueeze(0), model_.device());
    const Region place = seen.within(window);
    const torch::Tensor original = cut(input, place);
    const torch::Tensor reconstruction = cut(model_.reconstruct(input), place);
    if (place.size().h >= kSimilarityWindow && place.size().w >= kSimilarityWindow) {
      const std::int64_t windows =
          (place.size().h - kSimilarityWindow + 1) * (place.size().w - kSimilarityWindow + 1);
      ssim_.add(image_ssim(reconstruction, original).item<double>(), windows);
    }
    const Region own = part.within(seen);
    const torch::Tensor x = cut(original, own), y = cut(reconstruction, own);
    const auto mse = image_mse(y, x).item<double>();
    require_finite(mse, name_);
    mse_.add(mse, part.size().area());
    write(part, x[0].cpu(), y[0].cpu());
  }

  void write(const Region& part, const torch::Tensor& original,
             const torch::Tensor& reconstruction) {
    reconstruction_->put(part.columns.begin,
                         keeps_format_
                             ? in_file_numbers(reconstruction, info_, model_.info().value_range)
                             : to_uint8(reconstruction));
    const bool compares = grid_ || error_map_;
    const torch::Tensor error =
        compares ? error_picture(original, reconstruction) : torch::Tensor();
    if (error_map_) error_map_->put(part.columns.begin, error);
    if (grid_) {
      const std::int64_t factor = shown_size(size_).w / size_.w;
      const std::int64_t step = size_.w * factor + kPictureGap;
      std::int64_t left = part.columns.begin * factor;
      for (const torch::Tensor& shown : {to_uint8(original), to_uint8(reconstruction), error}) {
        grid_->put(left, shown.repeat_interleave(factor, 1).repeat_interleave(factor, 2));
        left += step;
      }
    }
    if (part.columns.end < size_.w) return;
    for (auto* file : {&reconstruction_, &grid_, &error_map_}) {
      if (*file) (*file)->end_band();
    }
  }

  const Model& model_;
  ImageWindows& picture_;
  Size size_;
  std::string name_;
  ImageInfo info_;
  bool keeps_format_;
  Tiling tiling_;
  std::optional<BandFile> reconstruction_, grid_, error_map_;
  ImageMean mse_, ssim_;
};

}  // namespace

ImageQuality reconstruct_in_tiles(const ModelFolder& folder, std::int64_t index,
                                  ImageWindows& picture, const TiledFiles& files,
                                  const Callbacks& callbacks, std::vector<std::string>& lost) {
  return TiledReconstruction(folder, index, picture, files, lost)
      .run(folder.tiles().side(folder.entry(index)), callbacks);
}

}  // namespace convae
