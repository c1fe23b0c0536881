#include "convae/inspection/channels.h"

#include "convae/core/parallel.h"

#include <torch/fft.h>
#include <torch/nn/functional/padding.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>

namespace convae {
namespace {

constexpr std::int64_t kPatch = 32;      // side of the spectrum
constexpr double kSpectrumFloor = 1e-3;  // of the mean power: no frequency is raised without end
constexpr double kSmallest = 1e-4;       // divisor of an image that is black or left without error

/// The kinds of maps at one scale.
enum Kind { kLighter, kDarker, kGradientY, kGradientX, kWhitened, kKinds };
/// All kinds by their own mean, and all but the last by the brightness.
static_assert(ChannelMaps::kChannelsPerScale == kKinds + kWhitened);

std::vector<cv::Mat> planes_of(const torch::Tensor& values) {
  std::vector<cv::Mat> planes;
  for (const torch::Tensor& plane : values.to(torch::kFloat).contiguous().unbind(0)) {
    planes.push_back(cv::Mat(static_cast<int>(plane.size(0)), static_cast<int>(plane.size(1)),
                             CV_32FC1, plane.data_ptr())
                         .clone());
  }
  return planes;
}

/// Half the difference of both neighbours; at the border, of the pixel and its neighbour.
cv::Mat gradient(const cv::Mat& plane, bool vertical) {
  cv::Mat row = (cv::Mat_<float>(1, 3) << -0.5F, 0, 0.5F);
  if (vertical) row = row.t();
  cv::Mat result;
  cv::filter2D(plane, result, CV_32F, row, {-1, -1}, 0, cv::BORDER_REPLICATE);
  return cv::abs(result);
}

cv::Mat map_of(Kind kind, const cv::Mat& smooth) {
  switch (kind) {
    case kLighter: return cv::max(smooth, 0.0);
    case kDarker: return cv::max(-smooth, 0.0);
    case kGradientY: return gradient(smooth, /*vertical=*/true);
    case kGradientX: return gradient(smooth, /*vertical=*/false);
    default: return cv::abs(smooth);  // of the whitened plane
  }
}

/// The largest of all colours.
cv::Mat strongest(Kind kind, const std::vector<cv::Mat>& planes) {
  cv::Mat result = map_of(kind, planes[0]);
  for (std::size_t c = 1; c < planes.size(); ++c) result = cv::max(result, map_of(kind, planes[c]));
  return result;
}

/// What a map is divided by so that images can be compared: lighter and darker share theirs, since
/// the more there is of one, the less there may be of the other.
double own_mean(Kind kind, const std::vector<cv::Mat>& planes, const cv::Mat& map) {
  if (kind != kLighter && kind != kDarker) return cv::mean(map)[0];
  return cv::mean(strongest(kWhitened, planes))[0];
}

std::vector<cv::Mat> smoothed(const std::vector<cv::Mat>& planes, double sigma) {
  std::vector<cv::Mat> result(planes.size());
  for (std::size_t c = 0; c < planes.size(); ++c) {
    cv::GaussianBlur(planes[c], result[c], {}, sigma, sigma, cv::BORDER_REPLICATE);
  }
  return result;
}

std::vector<cv::Mat> filtered(const std::vector<cv::Mat>& planes, const cv::Mat& kernel) {
  std::vector<cv::Mat> result(planes.size());
  for (std::size_t c = 0; c < planes.size(); ++c) {
    cv::filter2D(planes[c], result[c], CV_32F, kernel, {-1, -1}, 0, cv::BORDER_REPLICATE);
  }
  return result;
}

/// (C, H, W) → (C, H', W') with sides of at least kPatch, edges repeated.
torch::Tensor at_least_a_patch(const torch::Tensor& residual) {
  namespace F = torch::nn::functional;
  const auto missing = [&](int axis) {
    return std::max<std::int64_t>(0, kPatch - residual.size(axis));
  };
  return F::pad(residual.unsqueeze(0),
                F::PadFuncOptions({0, missing(2), 0, missing(1)}).mode(torch::kReplicate))
      .squeeze(0);
}

}  // namespace

Whitening::Whitening() : power_(torch::zeros({kPatch, kPatch}, torch::kDouble)) {}

void Whitening::add(const torch::Tensor& residual) {
  const torch::Tensor padded = at_least_a_patch(residual.to(torch::kFloat));
  torch::Tensor patches = padded.unfold(1, kPatch, kPatch).unfold(2, kPatch, kPatch);
  patches = patches.reshape({-1, kPatch, kPatch});
  patches = patches - patches.mean({1, 2}, /*keepdim=*/true);
  const torch::Tensor window = torch::hann_window(kPatch, torch::kFloat);
  const torch::Tensor spectra =
      torch::fft::fft2(patches * window.unsqueeze(0) * window.unsqueeze(1));
  power_ += spectra.abs().square().sum(0).to(torch::kDouble);
  patches_ += patches.size(0);
}

cv::Mat Whitening::kernel() const {
  torch::Tensor power = patches_ > 0 ? power_ / static_cast<double>(patches_) : power_;
  const auto mean = power.mean().item<double>();
  power = mean > 0 ? power / mean + kSpectrumFloor : torch::ones_like(power);
  // The mean of every patch was taken out, so that there is no estimate of it: its neighbours'.
  power[0][0] = (power[0][1] + power[1][0]) / 2;
  torch::Tensor kernel = torch::real(torch::fft::ifft2(power.rsqrt()));
  kernel = torch::fft::fftshift(kernel);
  const std::int64_t first = kPatch / 2 - kKernelSide / 2;
  const torch::Tensor window =
      torch::hann_window(kKernelSide + 2, /*periodic=*/false, torch::TensorOptions(torch::kDouble))
          .narrow(0, 1, kKernelSide);
  kernel = kernel.narrow(0, first, kKernelSide).narrow(1, first, kKernelSide);
  kernel = (kernel * window.unsqueeze(0) * window.unsqueeze(1)).to(torch::kFloat).contiguous();
  return cv::Mat(kKernelSide, kKernelSide, CV_32FC1, kernel.data_ptr()).clone();
}

ChannelMaps::ChannelMaps(const Residual& residual, const cv::Mat& whitening_kernel)
    : brightness_(residual.brightness),
      planes_(planes_of(residual.values)),
      white_(filtered(planes_, whitening_kernel)) {}

std::vector<cv::Mat> ChannelMaps::at_scale(std::size_t scale) const {
  const std::vector<cv::Mat> smooth = smoothed(planes_, kScales.at(scale));
  const std::vector<cv::Mat> smooth_white = smoothed(white_, kScales.at(scale));
  std::vector<cv::Mat> maps(kChannelsPerScale);
  parallel_for_each(kKinds, [&](std::int64_t i) {
    const auto kind = static_cast<Kind>(i);
    const std::vector<cv::Mat>& seen = kind == kWhitened ? smooth_white : smooth;
    const cv::Mat map = strongest(kind, seen);
    const auto index = static_cast<std::size_t>(i);
    maps[index] = map / std::max(own_mean(kind, seen, map), kSmallest);
    if (kind != kWhitened) maps[kKinds + index] = map / std::max(brightness_, kSmallest);
  });
  return maps;
}

}  // namespace convae
