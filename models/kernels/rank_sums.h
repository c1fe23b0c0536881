#pragma once

#include <cstdint>

namespace convae {

/// How batch normalisation sees the images of several processes that train together as one batch.
/// Internal; training sets it (training/collective.h).
struct RankSums {
  /// Replaces each number by its sum over all processes; null: there is one process. All of them
  /// call it equally often, in the same order.
  void (*sum)(double* values, std::int64_t count) = nullptr;

  /// This process has no image of the batch. What goes through its network stands in for one and
  /// counts nothing.
  bool stands_in = false;
};

inline RankSums& rank_sums() {
  static RankSums sums;
  return sums;
}

}  // namespace convae
