#pragma once

#include "convae/core/api.h"
#include "convae/core/tensor.h"

#include <cstdint>
#include <tuple>
#include <vector>

namespace CONVAE_API convae {

/// How well anomaly maps find the regions in masks, over all pixels of a test set in constant
/// memory: values are counted in classes of 1/512 of their magnitude, and those of one class count
/// as equal.
class PixelMetrics {
public:
  PixelMetrics();

  /// `map`: (H, W) float, finite, higher where more anomalous. `mask`: (H, W) bool, true inside a
  /// defect; undefined (`{}`) for an image without any. Throws std::invalid_argument if sizes
  /// differ.
  void add(const torch::Tensor& map, const torch::Tensor& mask = {});

  /// What was counted, for who tells another process of it: classes in which there is something.
  struct Count {
    std::uint32_t number;
    std::int64_t outside, inside, overlap;
  };
  struct Counts {
    std::int64_t regions = 0;
    std::vector<Count> classes;
    template <typename Self>
    static auto parts(Self& self) {
      return std::tie(self.regions, self.classes);
    }
  };
  Counts counts() const;
  /// Adds all that was added to another.
  PixelMetrics& operator+=(const Counts& other);

  /// Area under the ROC curve of all pixels; NaN without pixels of both kinds.
  double auroc() const;

  /// Per-region overlap (Bergmann et al. 2021, https://doi.org/10.1007/s11263-020-01400-4): over
  /// all thresholds at which at most `max_rate` of the pixels outside defects are found, the mean
  /// share that is found of every region, integrated over that rate and divided by it. A region is
  /// a set of defect pixels that touch, also at corners. In [0,1]; scores that say nothing get
  /// max_rate/2. NaN without regions or without pixels outside.
  double pro(double max_rate = 0.3) const;

  /// Sets of touching defect pixels.
  std::int64_t regions() const { return regions_; }

private:
  std::int64_t regions_ = 0;
  // Classes from the lowest value to the highest.
  std::vector<std::int64_t> outside_, inside_;  // pixels
  // Pixels inside, each kWhole / those of its region: whole numbers, so that the sum does not
  // depend on the order.
  std::vector<std::int64_t> overlap_;
};

}  // namespace convae
