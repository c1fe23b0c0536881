#pragma once

#include <torch/types.h>

#include <opencv2/core.hpp>

#include <cstdint>
#include <optional>
#include <vector>

namespace convae {

/// Along one side of an image, kPlaces places at which images of all sizes are compared. Within
/// kBorder pixels of an end they are counted in pixels, since rims and chamfers are as wide on a
/// large part as on a small one; what is between is divided evenly. Short sides are divided evenly
/// as a whole.
struct Places {
  static constexpr std::int64_t kPlaces = 32;
  static constexpr std::int64_t kBorder = 32;  ///< pixels, of kPlaces / 4 places

  /// length: pixels of the side, at least 1.
  explicit Places(std::int64_t length);

  /// (kPlaces, length) float: times values of pixels, their mean at every place; a place between
  /// two pixels takes the nearer one.
  torch::Tensor gather;
  /// (length, kPlaces) float: times values of places, straight lines between them at the pixels.
  torch::Tensor spread;
};

/// What good images leave at each place, and how much that varies: borders of a part leave more
/// than its middle. Images of all sizes add to one map, see Places.
///
/// Images belong to folds. An image that is to show what unseen good images get must not be
/// compared with itself, so it is compared with the other folds.
class LocationStatistics {
public:
  static constexpr int kTrainingFold = -1;  ///< of images that are only learnt from

  LocationStatistics(std::size_t channels, int folds);

  /// Places of an image: those of its height and of its width.
  struct Grid {
    Places rows, columns;
    explicit Grid(cv::Size size) : rows(size.height), columns(size.width) {}
  };

  /// Adds one map (H, W) float of an image of that fold. Safe for several channels at once.
  void add(std::size_t channel, const cv::Mat& map, const Grid& grid, int fold);
  /// Once for each image, after its maps.
  void count(int fold);

  /// Standardised maps: (map − mean) / deviation at each place. From all images but those of the
  /// fold. Valid until more is added; prepare() again with the same fold costs nothing. Safe for
  /// several channels at once.
  void prepare(int without_fold);
  cv::Mat standardise(std::size_t channel, const cv::Mat& map, const Grid& grid) const;

  /// What standardise() needs: means and deviations, (2, channels, kPlaces, kPlaces) float.
  torch::Tensor prepared() const;
  void restore(const torch::Tensor& prepared);

private:
  struct Sums {
    torch::Tensor values, squares;  // (channels, kPlaces, kPlaces) double
    std::int64_t images = 0;
  };
  std::vector<Sums> folds_;                        // kTrainingFold first
  std::vector<torch::Tensor> means_, deviations_;  // (kPlaces, kPlaces) float
  std::optional<int> left_out_;                    // fold they are without; unset: not prepared
};

/// Mean of the highest 0.1 % of the values, of at least one: (H, W) float.
double peak(const cv::Mat& map);

}  // namespace convae
