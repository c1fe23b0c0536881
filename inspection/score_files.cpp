#include "convae/inspection/score_files.h"

#include "convae/core/files.h"
#include "convae/data/pictures.h"
#include "convae/inference/folder.h"
#include "convae/inspection/heat.h"
#include "convae/models/pixels.h"

#include <algorithm>
#include <utility>

namespace convae {
namespace {

constexpr const char* kReport = "report.html";
/// Overlays are full where there is so many times what the strongest pixels of good images have.
constexpr double kFullOverlay = 2;
constexpr double kMostCover = 0.75;  // of an image, where its map is at its highest
/// Longest side of a tiled picture's copy for the report, as far as tiles can be divided.
constexpr std::int64_t kCopySide = 1024, kSmallestCopySide = kCopySide / 4;

/// As a heat file has it.
torch::Tensor in_heat_file(const torch::Tensor& map) {
  return to_uint16((map / HeatMap::kMost).clamp(0, 1).unsqueeze(0));
}

}  // namespace

torch::Tensor heat_over_image(const torch::Tensor& image, const torch::Tensor& map) {
  const torch::Tensor share = (map / kFullOverlay).clamp(0, 1);
  const torch::Tensor grey = to_float(image.unsqueeze(0), torch::kCPU)[0].mean(0, /*keepdim=*/true);
  // The map's darkest colours would hide dark images: how much shows grows with the map.
  const torch::Tensor cover = share * kMostCover;
  const torch::Tensor colour =
      to_float(coloured(0.25 + 0.5 * share, ColourMap::hot).unsqueeze(0), torch::kCPU)[0];
  return to_uint8(grey * (1 - cover) + colour * cover);
}

ScoreFiles::ScoreFiles(const ScoreOptions& options, const ModelFolder& folder)
    : output_(options.output, options.overwrite), writer_(folder.workers()) {
  output_.reserve_exact("scores.csv");
  output_.reserve_exact("summary.json");
  if (options.report) output_.reserve_exact(kReport);
  if (!options.heat_maps) return;
  const std::vector<std::string> inputs = folder.names();
  for (const char* subfolder : {"overlay", "heat"}) output_.expect(inputs, subfolder);
  for (const std::string& input : inputs) {
    overlays_.push_back(output_.reserve(input, ".png", "overlay"));
    heats_.push_back(output_.reserve(input, ".png", "heat"));
  }
  if (options.overwrite) output_.spare(folder.paths());  // they may lie in a folder named heat
}

void ScoreFiles::begin() const {
  if (heats_.empty()) return;
  for (const char* table : {"scores.csv", "summary.json", kReport}) output_.drop(table);
}

void ScoreFiles::write_map(std::int64_t image, const torch::Tensor& map,
                           const torch::Tensor& overlay) {
  const auto index = static_cast<std::size_t>(image);
  // Both folders before a file: together they tell that these are results.
  const std::filesystem::path shown = output_.prepare(overlays_[index]);
  writer_.write(output_.prepare(heats_[index]), in_heat_file(map), ImageFormat::png);
  writer_.write(shown, overlay, ImageFormat::png);
}

void ScoreFiles::write_results(const ScoreResult& result) {
  output_.drop(kReport);
  write_file(output_.prepare("scores.csv"), to_csv(result));
  write_file(output_.prepare("summary.json"), to_json(result, /*indent=*/2) + "\n");
}

void ScoreFiles::write_report(const std::string& page) {
  write_file(output_.prepare(kReport), page);
}

ScoreFiles::TiledMaps::TiledMaps(ScoreFiles& files, std::int64_t image, Size size)
    : overlay_(files.output_.prepare(files.overlays_[static_cast<std::size_t>(image)]),
               ImageFormat::png, {.size = size, .channels = 3}),
      heat_(files.output_.prepare(files.heats_[static_cast<std::size_t>(image)]), ImageFormat::png,
            {.size = size, .channels = 1, .type = at::kUInt16}),
      width_(size.w) {}

void ScoreFiles::TiledMaps::put(const Region& tile, const torch::Tensor& map,
                                const torch::Tensor& overlay) {
  overlay_.put(tile.columns.begin, overlay);
  heat_.put(tile.columns.begin, in_heat_file(map));
  if (tile.columns.end < width_) return;
  overlay_.end_band();
  heat_.end_band();
}

void ScoreFiles::TiledMaps::commit() {
  overlay_.commit();
  heat_.commit();
}

SmallCopies::SmallCopies(Size size, std::int64_t side) {
  const std::int64_t longest = std::max(size.h, size.w);
  for (std::int64_t i = 1; i <= longest / kSmallestCopySide && longest / factor_ > kCopySide; ++i) {
    if (side % i == 0) factor_ = i;
  }
  const auto shrunk = [&](std::int64_t length) { return (length + factor_ - 1) / factor_; };
  picture_ = torch::zeros({3, shrunk(size.h), shrunk(size.w)}, torch::kByte);
  overlay_ = torch::zeros_like(picture_);
}

void SmallCopies::put(const Region& tile, const torch::Tensor& pixels,
                      const torch::Tensor& overlay) {
  for (const auto& [copy, part] : {std::pair(picture_, pixels), std::pair(overlay_, overlay)}) {
    const torch::Tensor small =
        torch::avg_pool2d(to_float(part.unsqueeze(0), torch::kCPU), factor_, factor_, /*padding=*/0,
                          /*ceil_mode=*/true, /*count_include_pad=*/false);
    copy.narrow(1, tile.rows.begin / factor_, small.size(2))
        .narrow(2, tile.columns.begin / factor_, small.size(3))
        .copy_(to_uint8(small[0]));
  }
}

}  // namespace convae
