#include "convae/metrics/pixel_metrics.h"

#include "convae/data/mat.h"
#include "convae/metrics/statistics.h"

#include <fmt/format.h>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

namespace convae {
namespace {

/// Sign, exponent and the first 9 bits of the significand of a float.
constexpr int kClassBits = 18;

/// All of a region, of which there may be 2 million.
constexpr double kWhole = static_cast<double>(std::int64_t{1} << 42);

/// The class of a value: non-negative floats are ordered as their bits are, negative ones the other
/// way round.
std::size_t class_of(float value) {
  constexpr std::uint32_t kSign = 0x80000000;
  const auto bits = std::bit_cast<std::uint32_t>(value + 0.0F);  // -0 becomes 0
  const std::uint32_t ordered = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return ordered >> (32 - kClassBits);
}

}  // namespace

PixelMetrics::PixelMetrics()
    : outside_(std::size_t{1} << kClassBits), inside_(outside_.size()), overlap_(outside_.size()) {}

void PixelMetrics::add(const torch::Tensor& map, const torch::Tensor& mask) {
  const torch::Tensor values = map.to(at::kCPU, at::kFloat).contiguous();
  const auto* value = values.const_data_ptr<float>();
  if (!mask.defined()) {
    for (std::int64_t i = 0; i < values.numel(); ++i) ++outside_[class_of(value[i])];
    return;
  }
  if (mask.sizes() != map.sizes()) {
    throw std::invalid_argument(fmt::format("a map of {}x{} has a mask of {}x{}", map.size(0),
                                            map.size(1), mask.size(0), mask.size(1)));
  }
  const torch::Tensor bytes = mask.to(at::kByte).contiguous();
  cv::Mat labels, sizes, centroids;  // label 0 is outside
  const int regions = cv::connectedComponentsWithStats(mat_view(bytes.unsqueeze(2)), labels, sizes,
                                                       centroids, /*connectivity=*/8, CV_32S);
  regions_ += regions - 1;
  for (const int label : cv::Mat_<int>(labels)) {
    const std::size_t bin = class_of(*value++);
    if (label == 0) {
      ++outside_[bin];
    } else {
      ++inside_[bin];
      overlap_[bin] += std::llround(kWhole / sizes.at<int>(label, cv::CC_STAT_AREA));
    }
  }
}

PixelMetrics::Counts PixelMetrics::counts() const {
  Counts counts{regions_, {}};
  for (std::size_t i = 0; i < outside_.size(); ++i) {
    if (outside_[i] == 0 && inside_[i] == 0) continue;
    counts.classes.push_back({static_cast<std::uint32_t>(i), outside_[i], inside_[i], overlap_[i]});
  }
  return counts;
}

PixelMetrics& PixelMetrics::operator+=(const Counts& other) {
  regions_ += other.regions;
  for (const auto& [number, outside, inside, overlap] : other.classes) {
    outside_.at(number) += outside;
    inside_.at(number) += inside;
    overlap_.at(number) += overlap;
  }
  return *this;
}

double PixelMetrics::auroc() const {
  double below = 0, inside = 0, pairs_won = 0;  // pixels outside with a lower value so far
  for (std::size_t i = 0; i < outside_.size(); ++i) {
    const auto here = static_cast<double>(outside_[i]);
    pairs_won += static_cast<double>(inside_[i]) * (below + here / 2);
    below += here;
    inside += static_cast<double>(inside_[i]);
  }
  return below > 0 && inside > 0 ? pairs_won / (below * inside) : kNoValue;
}

double PixelMetrics::pro(double max_rate) const {
  double all_outside = 0;
  for (const std::int64_t pixels : outside_) all_outside += static_cast<double>(pixels);
  if (regions_ == 0 || all_outside == 0) return kNoValue;
  // The curve from the highest threshold down, by trapezoids; the last one is cut at max_rate.
  double rate = 0, share = 0, area = 0;
  for (std::size_t i = outside_.size(); i-- > 0 && rate < max_rate;) {
    if (outside_[i] == 0 && overlap_[i] == 0) continue;
    const double step = static_cast<double>(outside_[i]) / all_outside;
    const double gain = static_cast<double>(overlap_[i]) / kWhole / static_cast<double>(regions_);
    const double part = step > 0 ? std::min(1.0, (max_rate - rate) / step) : 1.0;
    area += part * step * (share + part * gain / 2);
    rate += step;
    share += gain;
  }
  return area / max_rate;
}

}  // namespace convae
