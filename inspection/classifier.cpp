#include "convae/inspection/classifier.h"

#include <torch/optim/lbfgs.h>

#include <algorithm>

namespace convae {

FaultClassifier FaultClassifier::fit(const torch::Tensor& features, const std::vector<int>& kinds,
                                     const torch::Tensor& variances) {
  const int count = *std::ranges::max_element(kinds);
  const torch::Tensor kind = torch::tensor(kinds).unsqueeze(1);
  const torch::Tensor good = (kind == 0).to(torch::kDouble);
  const torch::Tensor faulty = (kind == torch::arange(1, count + 1)).to(torch::kDouble);
  // Good images and those of a kind weigh the same, together as much as there are of them.
  const torch::Tensor of_kind = faulty.sum(0).clamp_min(1), all = good.sum() + of_kind;
  const torch::Tensor good_weights = good * (all / 2 / good.sum());
  const torch::Tensor fault_weights = faulty * (all / 2 / of_kind);

  // Weights in units of their priors' deviations: all directions are alike to the optimizer.
  const torch::Tensor units = variances.sqrt(), in_units = features * units;
  torch::Tensor weights = torch::zeros({count, features.size(1)}, torch::kDouble);
  torch::Tensor biases = torch::zeros({count}, torch::kDouble);
  weights.requires_grad_(true);
  biases.requires_grad_(true);
  constexpr std::int64_t kMostSteps = 200;
  torch::optim::LBFGS optimizer(
      {weights, biases},
      torch::optim::LBFGSOptions(1).max_iter(kMostSteps).line_search_fn("strong_wolfe"));
  const torch::AutoGradMode with_gradients(true);
  optimizer.step([&] {
    optimizer.zero_grad();
    const torch::Tensor logits = in_units.matmul(weights.t()) + biases;
    const torch::Tensor errors =
        good_weights * torch::softplus(logits) + fault_weights * torch::softplus(-logits);
    const torch::Tensor loss = errors.sum() + weights.square().sum() / 2;
    loss.backward();
    return loss;
  });
  return {weights.detach() * units, biases.detach()};
}

double FaultClassifier::score(const torch::Tensor& features) const {
  const torch::Tensor log_ratios = weights.matmul(features) + biases;
  const double largest = log_ratios.max().item<double>();
  return (largest + std::max(log_ratios.mean().item<double>(), largest - kLargestGap)) / 2;
}

}  // namespace convae
