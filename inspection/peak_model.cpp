#include "convae/inspection/peak_model.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <string>

namespace convae {
namespace {

/// A peak that hardly varies among few good images must not decide alone.
constexpr double kSmallestSpread = 0.05;  // of the mean peak
constexpr double kSmallestPeakDeviation = 1e-6;
constexpr double kSmallestAreaSpread = 1e-9;

}  // namespace

PeakModel::PeakModel(const torch::Tensor& peaks, const std::vector<int>& groups) {
  const std::int64_t images = peaks.size(0);
  const std::int64_t channels = peaks.size(1);
  if (images < kFewestImages) {
    throw std::invalid_argument("peaks of " + std::to_string(kFewestImages) +
                                " images or more are needed, but there are " +
                                std::to_string(images));
  }
  mean_ = peaks.mean(0);
  deviation_ = torch::maximum(peaks.std(0), mean_.abs() * kSmallestSpread + kSmallestPeakDeviation);
  const torch::Tensor z = (peaks - mean_) / deviation_;
  const auto n = static_cast<double>(images);
  const torch::Tensor covariance = z.t().matmul(z) / n;
  // In the paper's terms, of scaled Frobenius norms: m, d² and b².
  const auto p = static_cast<double>(channels);
  const torch::Tensor identity = torch::eye(channels, torch::kDouble);
  const double level = covariance.trace().item<double>() / p;
  const double spread = (covariance - level * identity).square().sum().item<double>() / p;
  const std::set<int> distinct(groups.begin(), groups.end());
  const torch::Tensor group_of_rows = torch::tensor(groups);
  double error = 0;
  for (const int group : distinct) {
    const torch::Tensor together = z.index({group_of_rows == group});
    const auto members = static_cast<double>(together.size(0));
    const torch::Tensor off = together.t().matmul(together) - members * covariance;
    error += off.square().sum().item<double>() / (n * n) / p;
  }
  // The paper leaves this factor out; of few groups it is not near 1. One group shows nothing.
  const auto seen = static_cast<double>(distinct.size());
  const bool shows_spread = spread > 0 && seen > 1;
  shrinkage_ = shows_spread ? std::clamp(error * seen / (seen - 1) / spread, 0.0, 1.0) : 1;
  torch::Tensor shrunk = shrinkage_ * level * identity + (1 - shrinkage_) * covariance;
  shrunk += kSmallestPeakDeviation * identity;     // all peaks may be the same
  inverse_ = at::linalg_inv(shrunk).contiguous();  // as a file keeps it, to the last bit
}

double PeakModel::score(const torch::Tensor& peaks) const {
  const torch::Tensor above = ((peaks - mean_) / deviation_).clamp_min(0);
  const auto square = above.dot(inverse_.matmul(above)).item<double>();
  return std::sqrt(std::max(square, 0.0) / static_cast<double>(peaks.size(0)));
}

AreaTrend::AreaTrend(const std::vector<Set>& sets) {
  std::vector<torch::Tensor> areas, peaks, all_areas;
  std::int64_t images = 0;
  for (const Set& set : sets) {
    images += set.peaks.size(0);
    all_areas.push_back(set.log_areas);
    areas.push_back(set.log_areas - set.log_areas.mean());
    peaks.push_back(set.peaks - set.peaks.mean(0));
  }
  if (images < kFewestImages) return;
  const torch::Tensor x = torch::cat(areas), y = torch::cat(peaks);
  const auto spread = x.square().sum().item<double>();
  if (spread < kSmallestAreaSpread) return;
  const torch::Tensor slopes = x.matmul(y) / spread;
  const torch::Tensor rest = (y - x.unsqueeze(1) * slopes).square().sum(0);
  const auto freedom = static_cast<double>(images - std::ssize(sets) - 1);
  const torch::Tensor t_squared = slopes.square() * spread * freedom / (rest + kSmallestAreaSpread);
  slopes_ = slopes * (1 - 1 / t_squared.clamp_min(1));
  centre_ = torch::cat(all_areas).mean().item<double>();
}

torch::Tensor AreaTrend::without(const torch::Tensor& peaks, double log_area) const {
  return slopes_.defined() ? peaks - slopes_ * (log_area - centre_) : peaks;
}

}  // namespace convae
