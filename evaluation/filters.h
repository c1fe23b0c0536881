#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/tensor.h"

#include <array>
#include <span>
#include <vector>

/// What restores images without having learnt anything: a network has to beat it.
namespace convae {

/// (N, C, H, W) float, C 1 or 3 → the same in [0,1], on the CPU; filtered more by a larger
/// strength.
using Filter = torch::Tensor (*)(const torch::Tensor& images, double strength);

/// Strength: σ in pixels.
torch::Tensor gaussian_blur(const torch::Tensor& images, double sigma);
inline constexpr std::array kBlurStrengths = {0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0};

/// OpenCV's non-local means (Buades, Coll & Morel 2005, https://doi.org/10.1109/CVPR.2005.38) on 8
/// bits, windows of 7 and 21 pixels; of colours, in CIELAB. Strength: h in values of 255.
torch::Tensor non_local_means(const torch::Tensor& images, double h);
inline constexpr std::array kMeansStrengths = {2.0, 3.0, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0};
/// False where convae was built without OpenCV's module photo; non_local_means() throws then.
extern const bool kHasNonLocalMeans;

/// An image, and what a filter is given of it: (1, C, H, W) float.
struct Trial {
  torch::Tensor image, shown;

  /// Cuts both to the 128 pixels a side in their middle.
  void keep_middle();
};

/// The strength that makes the smallest mean squared error on the trials. Throws Interrupted.
double best_strength(Filter filter, std::span<const double> strengths,
                     const std::vector<Trial>& trials, const Callbacks& callbacks);

}  // namespace convae
