#include "convae/models/latent_distribution.h"

#include <ATen/TensorOperators.h>

namespace convae {

LatentDistribution split_distribution(const torch::Tensor& means_and_log_variances) {
  // In float, whatever the network computed in: the exponential of a rounded logarithm is far off.
  const std::vector<torch::Tensor> halves = means_and_log_variances.to(at::kFloat).chunk(2, 1);
  return {halves[0], halves[1].clamp(-20, 10)};
}

torch::Tensor sample(const LatentDistribution& distribution, const torch::Tensor& noise) {
  return distribution.mean + (distribution.log_variance / 2).exp() * noise;
}

torch::Tensor divergence(const LatentDistribution& distribution) {
  const torch::Tensor& log_variance = distribution.log_variance;
  const torch::Tensor of_numbers =
      (distribution.mean.square() + log_variance.exp() - 1 - log_variance) / 2;
  return of_numbers.flatten(1).mean(1);
}

}  // namespace convae
