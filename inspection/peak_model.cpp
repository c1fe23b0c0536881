#include "convae/inspection/peak_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <string>

namespace convae {
namespace {

/// A peak that hardly varies among few good images must not decide alone.
constexpr double kSmallestSpread = 0.05;  // of the mean peak
constexpr double kSmallestPeakDeviation = 1e-6;

/// Rows of each group.
std::vector<torch::Tensor> rows_by_group(const torch::Tensor& rows,
                                         const std::vector<int>& groups) {
  if (groups.empty()) return rows.split(1);
  std::map<int, std::vector<std::int64_t>> members;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    members[groups[i]].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<torch::Tensor> result;
  result.reserve(members.size());
  for (const auto& [group, indices] : members) {
    result.push_back(rows.index_select(0, torch::tensor(indices)));
  }
  return result;
}

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
  const std::vector<torch::Tensor> by_group = rows_by_group(z, groups);
  double error = 0;
  for (const torch::Tensor& together : by_group) {
    const auto members = static_cast<double>(together.size(0));
    const torch::Tensor off = together.t().matmul(together) - members * covariance;
    error += off.square().sum().item<double>() / (n * n) / p;
  }
  // The paper leaves this factor out; of few groups it is not near 1. One group shows nothing.
  const auto seen = static_cast<double>(by_group.size());
  const bool shows_spread = spread > 0 && seen > 1;
  shrinkage_ = shows_spread ? std::clamp(error * seen / (seen - 1) / spread, 0.0, 1.0) : 1;
  torch::Tensor shrunk = shrinkage_ * level * identity + (1 - shrinkage_) * covariance;
  shrunk += kSmallestPeakDeviation * identity;  // all peaks may be the same
  inverse_ = at::linalg_inv(shrunk);
}

double PeakModel::score(const torch::Tensor& peaks) const {
  const torch::Tensor above = ((peaks - mean_) / deviation_).clamp_min(0);
  const auto square = above.dot(inverse_.matmul(above)).item<double>();
  return std::sqrt(std::max(square, 0.0) / static_cast<double>(peaks.size(0)));
}

}  // namespace convae
