#include "convae/inspection/area_trend.h"

namespace convae {
namespace {

constexpr double kSmallestAreaSpread = 1e-9;

}  // namespace

AreaTrend::AreaTrend(const std::vector<Set>& sets) {
  std::vector<torch::Tensor> areas, peaks, all_areas;
  std::int64_t images = 0, used_sets = 0;
  for (const Set& set : sets) {
    if (set.peaks.size(0) == 0) continue;
    images += set.peaks.size(0);
    ++used_sets;
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
  const auto freedom = static_cast<double>(images - used_sets - 1);
  const torch::Tensor t_squared = slopes.square() * spread * freedom / (rest + kSmallestAreaSpread);
  slopes_ = slopes * (1 - 1 / t_squared.clamp_min(1));
  centre_ = torch::cat(all_areas).mean().item<double>();
}

torch::Tensor AreaTrend::without(const torch::Tensor& peaks, double log_area) const {
  return slopes_.defined() ? peaks - slopes_ * (log_area - centre_) : peaks;
}

}  // namespace convae
