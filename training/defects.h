#pragma once

#include "convae/core/names.h"
#include "convae/core/random.h"
#include "convae/core/tensor.h"
#include "convae/data/dataset.h"
#include "convae/data/effects.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace cv {
class Mat;
}

/// Defects drawn on good pictures: what a network that has seen no real one can learn from.
namespace convae {

enum class DefectKind {
  patch,    ///< a piece of another picture, at another scale
  perlin,   ///< another picture's texture in cloud-shaped places (Perlin noise)
  line,     ///< scratches and cracks
  spot,     ///< one to four small ragged spots
  smear,    ///< blurred along one axis
  uneven,   ///< a large area slowly lighter or darker
  texture,  ///< an area too smooth or too rough
  corner    ///< a piece missing at an edge or a corner
};
constexpr auto names(DefectKind) {
  return std::to_array<Name<DefectKind>>({{DefectKind::patch, "patch"},
                                          {DefectKind::perlin, "perlin"},
                                          {DefectKind::line, "line"},
                                          {DefectKind::spot, "spot"},
                                          {DefectKind::smear, "smear"},
                                          {DefectKind::uneven, "uneven"},
                                          {DefectKind::texture, "texture"},
                                          {DefectKind::corner, "corner"}});
}

/// Each kind as often as any other.
DefectKind any_defect(CounterRandom& random);

/// Pictures that defects take pieces of: (H, W, C), uint8, uint16 or float. None or null: they take
/// them of the picture they are drawn on.
using GoodPictures = std::shared_ptr<const std::vector<torch::Tensor>>;

/// Up to 64 of the images, evenly spread, at the size `at` ({0, 0}: that of the data set), cut to
/// the 512 pixels a side in their middle. Images that cannot be used are left out.
GoodPictures good_pictures(ImageDataset& images, Size at = {});
/// The same, or null where `corruptions` draw no defects.
GoodPictures good_pictures_for(const Effects& corruptions, ImageDataset& images, Size at = {});

/// A map of floats in so many channels.
cv::Mat in_channels(const cv::Mat& map, int channels);

/// Adds normal noise to all values of a picture of floats.
void add_noise(cv::Mat& picture, double deviation, CounterRandom& random);

/// Pictures with a shorter side stay as they are.
inline constexpr int kLeastDefectSide = 8;

/// Draws a defect on a picture, (H, W) of 1 or 3 floats in [0,1], in place; it stays in [0,1].
/// `label`, where not null, is (H, W): each value becomes 1 - exp(-d / s) unless it was larger
/// before. d is how much the defect changes around a pixel (of the channels the largest change),
/// and s 8 % of the picture's brightness plus 0.3 of its deviation around there, below which a
/// change is hardly seen.
void draw_defect(cv::Mat& picture, DefectKind kind, CounterRandom& random,
                 const GoodPictures& others, cv::Mat* label = nullptr);

/// A picture of every kind of defect, in the order of their names, each beside its label: images
/// (C, H, W) float in [0,1] taken in turn → (3, h, w) uint8.
torch::Tensor defect_sheet(const std::vector<torch::Tensor>& images, const GoodPictures& others,
                           std::uint64_t seed);

}  // namespace convae
