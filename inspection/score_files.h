#pragma once

#include "convae/core/output_folder.h"
#include "convae/core/region.h"
#include "convae/data/image_writer.h"
#include "convae/data/picture_file.h"
#include "convae/inference/folder.h"
#include "convae/inspection/inspector.h"
#include "convae/inspection/results.h"

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

/// What is written of a folder's scores.
namespace convae {

/// The map (H, W) over its image, in grey: transparent where it is 0, through red to yellow. All
/// are on one scale, so that those of a whole set can be compared with each other. image: (C, H, W)
/// uint8, uint16 or float → (3, H, W) uint8.
torch::Tensor heat_over_image(const torch::Tensor& image, const torch::Tensor& map);

/// The files of a folder's results. All names are reserved before the first is written.
class ScoreFiles {
public:
  ScoreFiles(const ScoreOptions& options, const ModelFolder& folder);

  /// Throws std::runtime_error where the folder cannot be written.
  void require_writable() const { output_.require_writable(); }
  /// Removes an earlier call's tables, so that none describes other maps.
  void begin() const;
  void write_map(std::int64_t image, const torch::Tensor& map, const torch::Tensor& overlay);
  /// Waits for the maps of this rank.
  void finish_maps() { writer_.finish(); }

  /// The same for a picture that comes in tiles.
  class TiledMaps {
  public:
    TiledMaps(ScoreFiles& files, std::int64_t image, Size size);

    void put(const Region& tile, const torch::Tensor& map, const torch::Tensor& overlay);
    void commit();

  private:
    BandFile overlay_, heat_;
    std::int64_t width_;
  };

  void write_results(const ScoreResult& result);
  void write_report(const std::string& page);

private:
  OutputFolder output_;
  ImageWriter writer_;
  std::vector<std::string> overlays_, heats_;  // of each image, if wanted
};

/// A picture that comes in tiles, and its overlay, smaller by a whole factor.
class SmallCopies {
public:
  /// `side`: of the tiles.
  SmallCopies(Size size, std::int64_t side);

  void put(const Region& tile, const torch::Tensor& pixels, const torch::Tensor& overlay);
  const torch::Tensor& picture() const { return picture_; }
  const torch::Tensor& overlay() const { return overlay_; }

private:
  std::int64_t factor_ = 1;
  torch::Tensor picture_, overlay_;  // (3, h, w) uint8
};

}  // namespace convae
