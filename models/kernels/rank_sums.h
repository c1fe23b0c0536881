#pragma once

#include <cstdint>

namespace at {
class Tensor;
}

namespace convae {

/// How batch normalisation sees the images of several processes that train together as one batch.
/// Internal; training sets it (training/collective.h).
struct RankSums {
  /// Replaces each number, a contiguous double on any device, by its sum over all processes; null:
  /// there is one process. All of them call it equally often, in the same order.
  void (*sum)(const at::Tensor& values) = nullptr;

  /// This process has no image of the batch. What goes through its network stands in for one and
  /// counts nothing.
  bool stands_in = false;
};

inline RankSums& rank_sums() {
  static RankSums sums;
  return sums;
}

/// (2, C), doubles on any device: mean and variance of `count` values a channel → those of all
/// processes together. With a count of 0 they mean nothing.
void pool_moments_over_ranks(at::Tensor& moments, std::int64_t& count);

}  // namespace convae
