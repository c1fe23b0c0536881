#include "convae/tests/support.h"
#include "convae/training/optimizer.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
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
Autoencoder model(const std::string& levels = "4,6:k3x5p1x2") {
  ModelOptions options;
  options.channels = 3;
  options.levels = parse_levels(levels);
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
void expect_equals_torch(OptimizerKind kind, const TorchOptions& options) {
  Autoencoder net = model();
  Tensors theirs = copies(net);
  const Tensors start = copies(net);
  Optimizer ours(*net, train_options(kind, options.weight_decay()));
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

TEST(OptimizerTest, AdamEqualsTorchWithDecayAsL2) {
  for (const double decay : {0.0, 0.1}) {
    expect_equals_torch<torch::optim::Adam>(OptimizerKind::adam,
                                            torch::optim::AdamOptions(0.01).weight_decay(decay));
  }
}

TEST(OptimizerTest, AdamWEqualsTorchWithDecoupledDecay) {
  for (const double decay : {0.1, 0.0}) {
    expect_equals_torch<torch::optim::AdamW>(OptimizerKind::adamw,
                                             torch::optim::AdamWOptions(0.01).weight_decay(decay));
  }
}

TEST(OptimizerTest, SgdEqualsTorchWithMomentum) {
  for (const double decay : {0.0, 0.1}) {
    expect_equals_torch<torch::optim::SGD>(
        OptimizerKind::sgd, torch::optim::SGDOptions(0.01).momentum(0.9).weight_decay(decay));
  }
}

constexpr auto kForMuon = "8,12:k3x5p1x2,8";

TEST(OptimizerTest, OrthogonalisedKeepsSingularVectorsAndBringsSingularValuesNearOne) {
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{6, 54}, {54, 6}, {20, 20}, {1, 9}, {64, 576}, {1000, 9}}) {
    // From gradients that are small, down to where their squares are hardly in float's range.
    const torch::Tensor matrix = gaussian(shape, 1) * (shape[0] == 1000 ? 1e-18 : 1e-4);
    const auto [u, s, v] = torch::svd(matrix);
    const torch::Tensor turned = u.t().mm(orthogonalised(matrix)).mm(v);
    EXPECT_LE((turned - turned.diagonal().diag()).abs().max().item<double>(), 1e-3);
    EXPECT_GE(turned.diagonal().min().item<double>(), 0.79);
    EXPECT_LE(turned.diagonal().max().item<double>(), 1.21);
  }
  EXPECT_EQ(orthogonalised(torch::zeros({4, 9})).abs().max().item<double>(), 0);
}

/// In double, and on the matrix itself: each step takes X to a X + (b X Xᵀ + c (X Xᵀ)²) X.
torch::Tensor newton_schulz(torch::Tensor x) {
  x = x.to(torch::kDouble);
  const bool tall = x.size(0) > x.size(1);
  if (tall) x = x.t();
  x = x / x.mm(x.t()).norm().sqrt();
  for (const auto& [a, b, c] : {std::array{8.3837, -24.7659, 18.3571},
                                {4.0434, -3.0114, 0.5695},
                                {3.5056, -2.6267, 0.5257},
                                {2.4901, -1.8343, 0.4368}}) {
    const torch::Tensor square = x.mm(x.t());
    x = a * x + (b * square + c * square.mm(square)).mm(x);
  }
  return tall ? x.t() : x;
}

TEST(OptimizerTest, MuonStepsConvolutionsAsPublishedAndTheRestAsAdamW) {
  constexpr double kDecay = 0.1;
  Autoencoder net = model(kForMuon);
  Tensors theirs = copies(net);
  Optimizer ours(*net, train_options(OptimizerKind::muon, kDecay));
  torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(0.01).weight_decay(kDecay));
  std::map<std::size_t, torch::Tensor> momenta;  // of matrices
  for (int step = 0; step < 8; ++step) {
    set_gradients(net->parameters(), step);
    set_gradients(theirs, step);
    for (std::size_t i = 0; i < theirs.size(); ++i) {
      torch::Tensor& weight = theirs[i];
      if (weight.dim() != 4 || weight.size(0) < 8 || weight.size(1) < 8) continue;
      const torch::NoGradGuard no_grad;
      torch::Tensor& momentum = momenta.try_emplace(i, torch::zeros_like(weight)).first->second;
      momentum = 0.95 * momentum + 0.05 * weight.grad();
      const torch::Tensor nesterov = 0.05 * weight.grad() + 0.95 * momentum;
      const torch::Tensor update = newton_schulz(nesterov.flatten(1)).view(weight.sizes());
      const double longer = std::max(weight.size(0), weight.numel() / weight.size(0));
      weight *= 1 - rate(step) * kDecay;
      weight -= rate(step) * std::sqrt(longer) * update;
      weight.mutable_grad().reset();  // so that AdamW passes it over
    }
    ours.step(rate(step));
    reference.param_groups()[0].options().set_lr(rate(step));
    reference.step();
    const Tensors parameters = net->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      ASSERT_LE(difference(parameters[i], theirs[i]), 1e-5)
          << "step " << step << ", " << net->named_parameters()[i].key();
    }
  }
  EXPECT_EQ(momenta.size(), 4U) << "all but the first and the last convolution";
}

TEST(OptimizerTest, GoesOnIdenticallyFromItsState) {
  for (const auto kind :
       {OptimizerKind::adam, OptimizerKind::adamw, OptimizerKind::sgd, OptimizerKind::muon}) {
    Autoencoder whole = model(kForMuon);
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

    Autoencoder resumed = model(kForMuon);
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
  Autoencoder wider = model(kForMuon);
  const auto muon = Optimizer(*wider, train_options(OptimizerKind::muon)).state();
  EXPECT_EQ(muon.size(), 2 * wider->parameters().size() - 4) << "one for each matrix";
  EXPECT_EQ(muon.count("optimizer.encoder.1.conv.weight.momentum_buffer"), 1U);
  EXPECT_EQ(muon.count("optimizer.encoder.1.conv.bias.exp_avg_sq"), 1U);
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

TEST(OptimizerTest, AnotherKindsMomentsServeWhereTheyAreTheSame) {
  Autoencoder net = model(kForMuon), other = model(kForMuon);
  Optimizer muon(*net, train_options(OptimizerKind::muon));
  for (int step = 0; step < 9; ++step) {
    set_gradients(net->parameters(), step);
    muon.step(0);
  }
  Optimizer adam(*other, train_options(OptimizerKind::adam));
  EXPECT_EQ(adam.load_state(muon.state(), 9), std::ssize(muon.state()) - 4);
  const torch::Tensor weight = other->named_parameters()["encoder.1.conv.weight"];
  const torch::Tensor before = weight.detach().clone();
  set_gradients(other->parameters(), 9);
  adam.step(0.01);
  // Adam's first step is the rate everywhere; with the others' count of nine it would be half.
  EXPECT_LE(difference((weight - before).abs(), torch::full_like(before, 0.01)), 1e-4);
}

TEST(OptimizerTest, GoesOnIdenticallyWhereSomeMomentsAreYounger) {
  Autoencoder net = model(kForMuon), other = model(kForMuon);
  for (const auto before : {OptimizerKind::muon, OptimizerKind::sgd}) {
    const auto kind = before == OptimizerKind::muon ? OptimizerKind::adam : OptimizerKind::muon;
    Optimizer first(*net, train_options(before));
    for (int step = 0; step < 9; ++step) {
      set_gradients(net->parameters(), step);
      first.step(0);
    }
    Optimizer uninterrupted(*net, train_options(kind)), resumed(*other, train_options(kind));
    uninterrupted.load_state(first.state(), 9);
    set_gradients(net->parameters(), 9);
    uninterrupted.step(0);
    const auto state = uninterrupted.state();
    EXPECT_GT(resumed.load_state(state, uninterrupted.steps()), 0);
    const auto step_from_the_same = [](Autoencoder& each, Optimizer& optimizer) {
      const torch::NoGradGuard no_grad;
      for (torch::Tensor& parameter : each->parameters()) parameter.fill_(0.5);
      set_gradients(each->parameters(), 10);
      optimizer.step(0.01);
    };
    step_from_the_same(net, uninterrupted);
    step_from_the_same(other, resumed);
    const Tensors a = net->parameters(), b = other->parameters();
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i]));
  }
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
