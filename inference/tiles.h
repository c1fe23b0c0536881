#pragma once

#include "convae/core/region.h"
#include "convae/data/dataset.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"
#include "convae/models/tiling.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace convae {

/// Which pictures of a folder go through a model in tiles, and how large those are.
class TilePlan {
public:
  /// What a job does with a picture.
  struct Job {
    TiledResult result = TiledResult::reconstruction;
    std::int64_t bytes_a_pixel = 0;  ///< of a tile, beside what the network takes
    std::int64_t bytes_written = 0;  ///< a pixel of all rows of tiles, which are written together
    std::string never = {};          ///< why the job needs whole pictures; empty: it does not
  };

  /// By options.tile. Throws OptionError where tiles are asked for and cannot be had.
  TilePlan(const Model& model, const FolderOptions& options, Job job);

  bool takes(Size picture) const;
  /// Whether pictures may be larger than options.data.max_pixels.
  bool lifts_limit() const { return is_active_ && asked_.has_value(); }
  /// Why a picture above that limit cannot be used in tiles; nullopt where it can.
  std::optional<std::string> refusal(const ImageEntry& picture) const;

  /// The side of its tiles, in pixels: as asked for, else a multiple of Tiling::grid().
  std::int64_t side(const ImageEntry& picture) const;

  /// Throws std::runtime_error where a picture that goes through in tiles can only be decoded as a
  /// whole, and that takes more memory than is free.
  void require_memory_to_decode(const ImageEntry& picture) const;

  /// "1 of 4 images in tiles of 1024x1024: …"; empty where none goes through so.
  std::string line(const ImageEntries& pictures) const;

private:
  double bytes_for(Size size) const;
  std::int64_t choose_side(std::int64_t width, std::int64_t bytes_a_value) const;

  const ModelOptions& model_;
  Job job_;
  std::optional<std::int64_t> asked_;
  std::int64_t max_pixels_;
  double free_bytes_;
  bool is_active_ = false;
  std::int64_t side_ = 0;  // of pictures that are not too wide
};

/// Throws OptionError where tiles of that side, asked for, cannot be had of pictures with a model.
/// `never`: see TilePlan::Job.
void require_tiles(std::int64_t side, const ModelOptions& model, const DataOptions& data,
                   const std::string& never = {});

/// Calls `use` for each tile of a result, row by row; the last ones may be smaller.
void for_each_tile(Size result, Size tile, const std::function<void(const Region&)>& use);
std::int64_t tile_count(Size result, Size tile);

}  // namespace convae
