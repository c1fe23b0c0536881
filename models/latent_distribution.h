#pragma once

#include "convae/core/api.h"
#include "convae/core/tensor.h"

namespace CONVAE_API convae {

/// A variational encoder's output: an independent normal distribution for each latent number
/// (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114).
struct LatentDistribution {
  torch::Tensor mean;          ///< (N, c, h, w) or (N, D)
  torch::Tensor log_variance;  ///< the same shape, limited to [-20, 10]
};

/// Splits the encoder's last map, (N, 2c, h, w) or (N, 2D).
LatentDistribution split_distribution(const torch::Tensor& means_and_log_variances);

/// mean + deviation·noise, with noise shaped like the mean and drawn from N(0, 1).
torch::Tensor sample(const LatentDistribution& distribution, const torch::Tensor& noise);

/// Kullback-Leibler divergence from N(0, 1) of each image, mean over its latent numbers:
/// (mean² + variance - 1 - log variance) / 2. → (N) float, at least 0.
torch::Tensor divergence(const LatentDistribution& distribution);

}  // namespace convae
