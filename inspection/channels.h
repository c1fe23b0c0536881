#pragma once

#include <torch/types.h>

#include <opencv2/core.hpp>

#include <array>
#include <vector>

namespace convae {

/// What is left of one image in one view of it, such as the image minus its reconstruction.
struct Residual {
  torch::Tensor values;   ///< (C, H, W) float on the CPU, signed
  double brightness = 0;  ///< mean of the image, in [0,1]
};

/// A filter that makes the noise of good residuals white: what they are full of in every image
/// (stripes, grain) counts less than what is rare in them, at each frequency by how much of it
/// there is. Estimated from the mean power spectrum of good residuals (Welch 1967,
/// https://doi.org/10.1109/TAU.1967.1161901) and cut to a kernel of kKernelSide.
class Whitening {
public:
  static constexpr int kKernelSide = 15;

  Whitening();

  /// Adds one residual to the mean spectrum.
  void add(const torch::Tensor& residual);

  /// The kernel, (kKernelSide, kKernelSide) float; of white or no residuals a single 1 in the
  /// middle, up to a factor.
  cv::Mat kernel() const;

private:
  torch::Tensor power_;  // (kPatch, kPatch) double: mean over patches
  std::int64_t patches_ = 0;
};

/// The channels a residual is looked at in, each non-negative and higher where more is left. At
/// each scale (σ of a Gaussian, in pixels):
///
/// | channel    | is |
/// |------------|----|
/// | lighter    | amplitude where the image is lighter than its reconstruction |
/// | darker     | amplitude where it is darker |
/// | gradient y | absolute difference to the neighbours above and below |
/// | gradient x | … to the left and right |
/// | whitened   | amplitude of the whitened residual |
///
/// The first four are there twice, divided by the mean of that channel in this image (so that an
/// image that is hard to reconstruct everywhere is no anomaly) and by the image's brightness (so
/// that one that is reconstructed well everywhere is none for its faintest marks); whitened is
/// divided by its own mean only. Colours: the largest of them counts.
///
/// They come a scale at a time, so that only those are in memory.
class ChannelMaps {
public:
  static constexpr std::array kScales = {1.0, 2.0, 4.0, 8.0};
  static constexpr std::size_t kChannelsPerScale = 5 + 4;

  ChannelMaps(const Residual& residual, const cv::Mat& whitening_kernel);

  /// (H, W) float each: those divided by their mean, then those divided by the brightness. Computed
  /// on several threads.
  std::vector<cv::Mat> at_scale(std::size_t scale) const;

private:
  double brightness_;
  std::vector<cv::Mat> planes_, white_;  // one a colour
};

}  // namespace convae
