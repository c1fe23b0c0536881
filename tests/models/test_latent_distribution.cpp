#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace convae::test_latent_distribution {
namespace {

using test::contains;
using test::message_of;

ModelOptions variational(std::int64_t latent_channels, std::int64_t latent) {
  ModelOptions options = test::small_network("4,8");
  options.latent_channels = latent_channels;
  options.latent = latent;
  if (latent > 0) options.size = {11, 14};
  options.variational = true;
  return options;
}

TEST(LatentDistribution, DivergenceIsThatOfNormalDistributions) {
  const LatentDistribution standard{torch::zeros({2, 5}), torch::zeros({2, 5})};
  EXPECT_TRUE(torch::equal(divergence(standard), torch::zeros({2})));
  // By integration of p·log(p/q) over a fine grid.
  const double mean = 0.7, deviation = 1.8;
  const torch::Tensor x = torch::linspace(-20, 20, 400001, torch::kDouble);
  const auto log_density = [&](double m, double s) {
    return -((x - m) / s).square() / 2 - std::log(s) - std::log(2 * M_PI) / 2;
  };
  const torch::Tensor p = log_density(mean, deviation);
  const double expected = (p.exp() * (p - log_density(0, 1))).sum().item<double>() * 1e-4;
  const LatentDistribution given{torch::full({1, 3, 2, 2}, mean),
                                 torch::full({1, 3, 2, 2}, 2 * std::log(deviation))};
  EXPECT_NEAR(divergence(given).item<double>(), expected, 1e-6);
}

TEST(LatentDistribution, SamplesHaveItsMeanAndDeviation) {
  torch::manual_seed(1);
  const LatentDistribution given{torch::full({100000, 1}, 2.0), torch::full({100000, 1}, -1.0)};
  const torch::Tensor samples = sample(given, torch::randn({100000, 1}));
  EXPECT_NEAR(samples.mean().item<double>(), 2, 0.01);
  EXPECT_NEAR(samples.std().item<double>(), std::exp(-0.5), 0.01);
}

TEST(VariationalEncoder, GivesMeansAsLatents) {
  for (const ModelOptions& options : {variational(2, 0), variational(0, 5)}) {
    Autoencoder net(options);
    net->eval();
    const torch::Tensor x = torch::rand({2, 3, 11, 14});
    const LatentDistribution distribution = net->encoder->distributions({x})[0];
    EXPECT_TRUE(torch::equal(net->encoder->forward(x), distribution.mean));
    EXPECT_EQ(distribution.log_variance.sizes(), distribution.mean.sizes());
    EXPECT_EQ(net->forward(x).sizes(), x.sizes());
  }
}

TEST(VariationalEncoder, NeedsABottleneck) {
  ModelOptions options = variational(0, 0);
  EXPECT_TRUE(contains(message_of<std::invalid_argument>([&] { options.validate(); }),
                       "variational needs a bottleneck"));
}

}  // namespace
}  // namespace convae::test_latent_distribution
