#include "convae/models/kernels/rank_sums.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

namespace convae {

void pool_moments_over_ranks(at::Tensor& moments, std::int64_t& count) {
  const RankSums& ranks = rank_sums();
  if (ranks.sum == nullptr) return;
  const double own = ranks.stands_in ? 0 : static_cast<double>(count);
  const at::Tensor square = moments[1] + moments[0].square();
  const at::Tensor sums =
      at::cat({moments[0] * own, square * own, at::full({1}, own, moments.options())});
  ranks.sum(sums);
  count = static_cast<std::int64_t>(sums[-1].item<double>());
  if (count == 0) return;
  moments = sums.narrow(0, 0, sums.numel() - 1).view({2, -1}) / static_cast<double>(count);
  moments[1].sub_(moments[0].square()).clamp_min_(0);
}

}  // namespace convae
