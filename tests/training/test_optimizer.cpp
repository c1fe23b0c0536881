#include "convae/tests/support.h"
#include "convae/training/optimizer.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace convae::test_optimizer {
namespace {

using test::difference;
using test::gaussian;
using test::message_of;
using Tensors = std::vector<torch::Tensor>;

TrainOptions train_options(OptimizerKind kind, double weight_decay = 0) {
  TrainOptions options;
  options.optimizer = kind;
  options.weight_decay = weight_decay;
  return options;
}

/// Weights of every layout that models have: maps channels-last, matrices and vectors.
Autoencoder model() {
  ModelOptions options;
  options.channels = 3;
  options.levels = parse_levels("4,6:k3x5p1x2");
  options.latent = 5;
  options.size = {8, 8};
  Autoencoder net(options);
  torch::NoGradGuard no_grad;
  std::uint64_t seed = 1;
  for (torch::Tensor& parameter : net->parameters()) {
    parameter.copy_(gaussian(parameter.sizes(), seed++) * 0.3);
  }
  return net;
}

Tensors copies(Autoencoder& net) {
  Tensors all;
  for (const torch::Tensor& parameter : net->parameters()) {
    all.push_back(parameter.detach().clone().requires_grad_());
  }
  return all;
}

/// The gradients of one step; every second one in planes, as some backward kernels leave them.
Tensors gradients(const Tensors& parameters, int step) {
  Tensors all;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    torch::Tensor gradient = gaussian(parameters[i].sizes(), 1000 * (step + 1) + i);
    if (parameters[i].dim() == 4 && i % 4 == 0) {
      gradient = gradient.contiguous(torch::MemoryFormat::ChannelsLast);
    }
    all.push_back(gradient);
  }
  return all;
}

void set_gradients(const Tensors& parameters, int step) {
  const Tensors all = gradients(parameters, step);
  for (std::size_t i = 0; i < all.size(); ++i) parameters[i].mutable_grad() = all[i].clone();
}

double rate(int step) { return 0.01 / (1 + step); }

template <typename TorchOptimizer, typename TorchOptions>
void expect_equals_torch(OptimizerKind kind, double weight_decay, const TorchOptions& options) {
  Autoencoder net = model();
  Tensors theirs = copies(net);
  const Tensors start = copies(net);
  Optimizer ours(*net, train_options(kind, weight_decay));
  TorchOptimizer reference(theirs, options);
  for (int step = 0; step < 20; ++step) {
    set_gradients(net->parameters(), step);
    set_gradients(theirs, step);
    ours.step(rate(step));
    reference.param_groups()[0].options().set_lr(rate(step));
    reference.step();
    const Tensors parameters = net->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      ASSERT_LE(difference(parameters[i], theirs[i]), 1e-6)
          << "step " << step << ", " << net->named_parameters()[i].key();
      ASSERT_GT(difference(parameters[i], start[i]), 1e-4);
    }
  }
  EXPECT_EQ(ours.steps(), 20);
}

TEST(OptimizerTest, AdamEqualsTorch) {
  expect_equals_torch<torch::optim::Adam>(OptimizerKind::adam, 0, torch::optim::AdamOptions(0.01));
}

TEST(OptimizerTest, AdamTakesWeightDecayAsL2) {
  expect_equals_torch<torch::optim::Adam>(OptimizerKind::adam, 0.1,
                                          torch::optim::AdamOptions(0.01).weight_decay(0.1));
}

TEST(OptimizerTest, AdamWEqualsTorchWithDecoupledDecay) {
  expect_equals_torch<torch::optim::AdamW>(OptimizerKind::adamw, 0.1,
                                           torch::optim::AdamWOptions(0.01).weight_decay(0.1));
  expect_equals_torch<torch::optim::AdamW>(OptimizerKind::adamw, 0,
                                           torch::optim::AdamWOptions(0.01).weight_decay(0));
}

TEST(OptimizerTest, SgdEqualsTorchWithMomentum) {
  expect_equals_torch<torch::optim::SGD>(OptimizerKind::sgd, 0,
                                         torch::optim::SGDOptions(0.01).momentum(0.9));
  expect_equals_torch<torch::optim::SGD>(
      OptimizerKind::sgd, 0.1, torch::optim::SGDOptions(0.01).momentum(0.9).weight_decay(0.1));
}

TEST(OptimizerTest, GoesOnIdenticallyFromItsState) {
  for (const auto kind : {OptimizerKind::adam, OptimizerKind::adamw, OptimizerKind::sgd}) {
    Autoencoder whole = model();
    Optimizer uninterrupted(*whole, train_options(kind, 0.01));
    std::map<std::string, torch::Tensor> state;
    Tensors weights;
    for (int step = 0; step < 12; ++step) {
      set_gradients(whole->parameters(), step);
      uninterrupted.step(rate(step));
      if (step != 6) continue;
      weights = copies(whole);
      for (const auto& [name, tensor] : uninterrupted.state()) state[name] = tensor.clone();
    }

    Autoencoder resumed = model();
    {
      torch::NoGradGuard no_grad;
      Tensors parameters = resumed->parameters();
      for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].copy_(weights[i]);
    }
    Optimizer optimizer(*resumed, train_options(kind, 0.01));
    EXPECT_EQ(optimizer.load_state(state, 7), std::ssize(state));
    EXPECT_EQ(optimizer.steps(), 7);
    for (int step = 7; step < 12; ++step) {
      set_gradients(resumed->parameters(), step);
      optimizer.step(rate(step));
    }
    const Tensors a = whole->parameters(), b = resumed->parameters();
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i]));
  }
}

TEST(OptimizerTest, StateIsNamedAfterParametersAndMoments) {
  Autoencoder net = model();
  const auto adam = Optimizer(*net, train_options(OptimizerKind::adam)).state();
  EXPECT_EQ(adam.size(), 2 * net->parameters().size());
  EXPECT_EQ(adam.at("optimizer.encoder.0.conv.weight.exp_avg").sizes(),
            (std::vector<std::int64_t>{4, 3, 3, 3}));
  EXPECT_EQ(adam.count("optimizer.decoder.latent.linear.bias.exp_avg_sq"), 1U);
  const auto sgd = Optimizer(*net, train_options(OptimizerKind::sgd)).state();
  EXPECT_EQ(sgd.size(), net->parameters().size());
  EXPECT_EQ(sgd.count("optimizer.encoder.0.norm.weight.momentum_buffer"), 1U);
}

TEST(OptimizerTest, StartsFreshFromTheStateOfAnotherKind) {
  Autoencoder net = model();
  Optimizer sgd(*net, train_options(OptimizerKind::sgd));
  set_gradients(net->parameters(), 0);
  sgd.step(0.1);
  Optimizer adam(*net, train_options(OptimizerKind::adam));
  EXPECT_EQ(adam.load_state(sgd.state(), 1), 0);
  // Adam's bias correction would be wrong with a count that its moments have not seen.
  EXPECT_EQ(adam.steps(), 0);
}

TEST(OptimizerTest, RefusesAStateOfAnotherShape) {
  Autoencoder net = model();
  Optimizer optimizer(*net, train_options(OptimizerKind::adam));
  const std::string name = "optimizer.encoder.0.conv.weight.exp_avg";
  EXPECT_EQ(message_of<std::runtime_error>([&] {
              optimizer.load_state({{name, torch::zeros({4, 3, 3, 5})}}, 1);
            }),
            "'" + name + "' has shape [4, 3, 3, 5], expected [4, 3, 3, 3]");
}

TEST(OptimizerTest, ForgetsGradientsWhenTold) {
  Autoencoder net = model();
  Optimizer optimizer(*net, train_options(OptimizerKind::adam));
  set_gradients(net->parameters(), 0);
  optimizer.zero_grad();
  for (const torch::Tensor& parameter : net->parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
  }
}

double norm_of_gradients(Autoencoder& net) {
  double sum = 0;
  for (const torch::Tensor& parameter : net->parameters()) {
    sum += parameter.grad().to(torch::kDouble).square().sum().item<double>();
  }
  return std::sqrt(sum);
}

TEST(OptimizerTest, ScalesLongGradientsToTheLargestNorm) {
  Autoencoder net = model();
  Optimizer optimizer(*net, train_options(OptimizerKind::adam));
  set_gradients(net->parameters(), 0);
  const Tensors before = gradients(net->parameters(), 0);
  const double norm = norm_of_gradients(net);
  ASSERT_GT(norm, 5);
  EXPECT_NEAR(optimizer.gradient_norm().item<double>(), norm, 1e-3);
  optimizer.clip_gradients(2, optimizer.gradient_norm());
  EXPECT_NEAR(norm_of_gradients(net), 2, 1e-4);
  const Tensors parameters = net->parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_LE(difference(parameters[i].grad(), before[i] * (2 / norm)), 1e-5);
  }
}

TEST(OptimizerTest, LeavesShortGradientsAlone) {
  Autoencoder net = model();
  Optimizer optimizer(*net, train_options(OptimizerKind::adam));
  set_gradients(net->parameters(), 0);
  const Tensors before = gradients(net->parameters(), 0);
  optimizer.clip_gradients(1e6, optimizer.gradient_norm());
  const Tensors parameters = net->parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_TRUE(torch::equal(parameters[i].grad(), before[i]));
  }
}

}  // namespace
}  // namespace convae::test_optimizer
