#include "convae/models/blocks.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace convae::test_blocks {
namespace {

using test::difference;
using test::gaussian;
using Sizes = std::vector<std::int64_t>;

/// What models/blocks.h promises.
double momentum_of(int step) { return std::max(0.02, 6.0 / (step + 5)); }

/// Both with the same random weight, bias and running statistics.
std::pair<BatchNorm, torch::nn::BatchNorm2d> twins(std::int64_t channels) {
  torch::NoGradGuard no_grad;
  BatchNorm ours(channels);
  ours->weight.copy_(gaussian({channels}, 1));
  ours->bias.copy_(gaussian({channels}, 2));
  ours->running_mean.copy_(gaussian({channels}, 3));
  ours->running_var.copy_(test::uniform({channels}, 4) + 0.5);
  torch::nn::BatchNorm2d theirs(channels);
  theirs->weight.copy_(ours->weight);
  theirs->bias.copy_(ours->bias);
  theirs->running_mean.copy_(ours->running_mean);
  theirs->running_var.copy_(ours->running_var);
  return {ours, theirs};
}

torch::Tensor input(at::IntArrayRef sizes, std::uint64_t seed = 10) {
  return (gaussian(sizes, seed) * 3 + 2).requires_grad_();
}

/// Values and gradients of both modules for the same input.
template <typename Ours, typename Theirs>
void expect_same(Ours ours, Theirs theirs, const torch::Tensor& x, double tolerance = 1e-5) {
  const torch::Tensor a = x.detach().clone().requires_grad_();
  const torch::Tensor b = x.detach().clone().requires_grad_();
  const torch::Tensor y = ours->forward(a);
  const torch::Tensor z = theirs->forward(b);
  EXPECT_LE(difference(y, z), tolerance);
  const torch::Tensor direction = gaussian(y.sizes(), 77);
  (y * direction).sum().backward();
  (z * direction).sum().backward();
  EXPECT_LE(difference(a.grad(), b.grad()), tolerance);
  // Sums over all pixels: rounding grows with their number.
  EXPECT_LE(difference(ours->weight.grad(), theirs->weight.grad()), 10 * tolerance);
  EXPECT_LE(difference(ours->bias.grad(), theirs->bias.grad()), 10 * tolerance);
}

TEST(BatchNormTest, EqualsTorchInTraining) {
  for (const auto layout : {torch::MemoryFormat::Contiguous, torch::MemoryFormat::ChannelsLast}) {
    auto [ours, theirs] = twins(7);
    expect_same(ours, theirs, input({5, 7, 6, 4}).contiguous(layout));
  }
}

TEST(BatchNormTest, EqualsTorchInEvaluation) {
  auto [ours, theirs] = twins(7);
  ours->eval();
  theirs->eval();
  expect_same(ours, theirs, input({5, 7, 6, 4}));
}

TEST(BatchNormTest, EvaluationLeavesStatisticsAlone) {
  auto [ours, theirs] = twins(3);
  ours->eval();
  ours->forward(input({4, 3, 5, 5}));
  EXPECT_TRUE(torch::equal(ours->running_mean, theirs->running_mean));
  EXPECT_TRUE(torch::equal(ours->running_var, theirs->running_var));
  EXPECT_EQ(ours->num_batches_tracked.item<std::int64_t>(), 0);
}

TEST(BatchNormTest, StatisticsAreMovingAveragesCorrectedForTheirStart) {
  BatchNorm ours(4);
  torch::nn::BatchNorm2d theirs(4);
  for (int step = 1; step <= 320; ++step) {
    const torch::Tensor x = input({3, 4, 5, 6}, step) * (1 + step % 3);
    ours->forward(x);
    theirs->options.momentum(momentum_of(step));
    theirs->forward(x);
    EXPECT_LE(difference(ours->running_mean, theirs->running_mean), 1e-5) << step;
    EXPECT_LE(difference(ours->running_var, theirs->running_var), 2e-4) << step;
    EXPECT_EQ(ours->num_batches_tracked.item<std::int64_t>(), step);
  }
}

TEST(BatchNormTest, GoesOnWithTheCountOfAModel) {
  BatchNorm ours(2);
  ours->num_batches_tracked.fill_(1000);
  ours->running_mean.fill_(5);
  const torch::Tensor x = input({3, 2, 5, 6});
  ours->begin_step();
  ours->forward(x);
  ours->commit_statistics();
  EXPECT_LE(difference(ours->running_mean, 0.98 * 5 + 0.02 * x.mean({0, 2, 3})), 1e-5);
}

/// (C, M): all values of the micro-batches.
torch::Tensor values_of(const std::vector<torch::Tensor>& batches) {
  std::vector<torch::Tensor> parts;
  for (const torch::Tensor& x : batches) {
    parts.push_back(x.detach().to(torch::kDouble).transpose(0, 1).flatten(1));
  }
  return torch::cat(parts, 1);
}

TEST(BatchNormTest, PoolsMicroBatchesOfDifferentSizes) {
  BatchNorm norm(3);
  std::vector<std::vector<torch::Tensor>> steps;
  for (int step = 0; step < 2; ++step) {
    steps.push_back({input({2, 3, 4, 5}, 20 + step), input({1, 3, 7, 2}, 30 + step) * 4 + 1,
                     input({1, 3, 1, 1}, 40 + step), input({5, 3, 1, 3}, 50 + step) - 3});
  }
  torch::Tensor mean = torch::zeros({3}, torch::kDouble);
  torch::Tensor variance = torch::zeros({3}, torch::kDouble);
  // Of the first and the second step in the average.
  const double weights[] = {1 - momentum_of(2), momentum_of(2)};
  for (int step = 0; step < 2; ++step) {
    const torch::Tensor before = norm->running_mean.clone();
    norm->begin_step();
    for (const torch::Tensor& x : steps[step]) norm->forward(x);
    EXPECT_TRUE(torch::equal(norm->running_mean, before)) << "moved within the step";
    norm->commit_statistics();
    const torch::Tensor values = values_of(steps[step]);
    if (step == 0) {
      EXPECT_LE(difference(norm->running_mean, values.mean(1)), 1e-5);
      EXPECT_LE(difference(norm->running_var, values.var(1, /*unbiased=*/true)), 1e-4);
    }
    mean += weights[step] * values.mean(1);
    variance += weights[step] * values.var(1, /*unbiased=*/true);
  }
  EXPECT_LE(difference(norm->running_mean, mean), 1e-5);
  EXPECT_LE(difference(norm->running_var, variance), 1e-4);
  EXPECT_EQ(norm->num_batches_tracked.item<std::int64_t>(), 2);
}

TEST(BatchNormTest, PoolsSingleValuesOfSeveralImages) {
  BatchNorm norm(3);
  std::vector<torch::Tensor> batches;
  norm->begin_step();
  for (int i = 0; i < 4; ++i) {
    batches.push_back(input({1, 3, 1, 1}, i));
    norm->forward(batches.back());
  }
  norm->commit_statistics();
  EXPECT_LE(difference(norm->running_mean, values_of(batches).mean(1)), 1e-5);
  EXPECT_LE(difference(norm->running_var, values_of(batches).var(1, true)), 1e-4);
}

TEST(BatchNormTest, PooledVarianceSurvivesALargeMean) {
  BatchNorm norm(2);
  std::vector<torch::Tensor> batches = {gaussian({4, 2, 8, 8}, 1) * 0.5 + 300,
                                        gaussian({4, 2, 6, 6}, 2) * 0.5 + 301};
  norm->begin_step();
  for (const torch::Tensor& x : batches) norm->forward(x);
  norm->commit_statistics();
  EXPECT_LE(difference(norm->running_var, values_of(batches).var(1, true)), 1e-3);
}

TEST(BatchNormTest, OneValueAChannelIsNormalisedByRunningStatistics) {
  for (const bool in_step : {false, true}) {
    auto [ours, theirs] = twins(5);
    theirs->eval();
    if (in_step) ours->begin_step();
    expect_same(ours, theirs, input({1, 5, 1, 1}));
    if (in_step) ours->commit_statistics();
    // One value has no variance to learn from.
    EXPECT_TRUE(torch::equal(ours->running_mean, theirs->running_mean));
    EXPECT_TRUE(torch::equal(ours->running_var, theirs->running_var));
    EXPECT_EQ(ours->num_batches_tracked.item<std::int64_t>(), 0);
  }
}

TEST(BatchNormTest, PassesOfOneStepAreNormalisedByTheirOwnStatistics) {
  auto [ours, theirs] = twins(4);
  ours->begin_step();
  ours->forward(input({2, 4, 5, 5}, 20));
  expect_same(ours, theirs, input({3, 4, 6, 2}, 21));
}

TEST(GroupCount, IsTheLargestDivisorOfAtMostEight) {
  for (std::int64_t channels = 1; channels <= 300; ++channels) {
    std::int64_t largest = 0;
    for (std::int64_t groups = 1; groups <= 8; ++groups) {
      if (channels % groups == 0) largest = groups;
    }
    EXPECT_EQ(group_count(channels), largest) << channels;
  }
}

void randomise(torch::nn::Module& module) {
  torch::NoGradGuard no_grad;
  std::uint64_t seed = 100;
  for (torch::Tensor& parameter : module.parameters()) {
    parameter.copy_(gaussian(parameter.sizes(), seed++));
  }
}

TEST(BlockTest, GroupNormOfALargeMapIsExact) {
  torch::NoGradGuard no_grad;
  ModelOptions options;
  options.norm = Norm::group;
  const torch::Tensor image = test::uniform({1, 3, 481, 321}, 5) + 1;
  for (const std::int64_t channels : {8, 1}) {
    const LevelSpec pointwise{channels, {1, 1}, {1, 1}, {0, 0}, {1, 1}};
    Block block(BlockImpl::Kind::conv, 3, pointwise, options, /*activated=*/true);
    const torch::Tensor y =
        block->forward({image.contiguous(torch::MemoryFormat::ChannelsLast)}, {{481, 321}})[0];
    EXPECT_TRUE(y.is_contiguous(torch::MemoryFormat::ChannelsLast));
    block->to(torch::kDouble);
    const auto weights = block->named_parameters();
    const torch::Tensor convolved =
        torch::conv2d(image.to(torch::kDouble), weights["conv.weight"], weights["conv.bias"]);
    EXPECT_LE(difference(y, torch::silu(torch::group_norm(convolved, channels))), 1e-5);
  }
}

/// Inputs of several sizes, one of them a single value a channel after the convolution.
const std::vector<Sizes> kMixed = {{2, 3, 8, 9}, {1, 3, 5, 4}, {1, 3, 1, 1}, {3, 3, 4, 9}};

/// Sizes that a convolution of LevelSpec{4} or its mirror gives.
std::vector<Size> sizes_after(BlockImpl::Kind kind, const Maps& maps) {
  std::vector<Size> sizes;
  for (const torch::Tensor& x : maps) {
    const std::int64_t h = x.size(2), w = x.size(3);
    sizes.push_back(kind == BlockImpl::Kind::conv ? Size{(h + 1) / 2, (w + 1) / 2}
                                                  : Size{2 * h, 2 * w - 1});
  }
  return sizes;
}

Maps mixed_inputs() {
  Maps maps;
  for (std::size_t i = 0; i < kMixed.size(); ++i) {
    maps.push_back((gaussian(kMixed[i], i) * static_cast<double>(1 + i)).requires_grad_());
  }
  return maps;
}

TEST(BlockTest, BatchNormTakesItsStatisticsOverMapsOfAllSizes) {
  for (const auto kind : {BlockImpl::Kind::conv, BlockImpl::Kind::conv_transpose}) {
    for (const Order order : {Order::conv_bn_act, Order::conv_act_bn}) {
      ModelOptions options;
      options.order = order;
      Block block(kind, 3, LevelSpec{4}, options, /*activated=*/true);
      randomise(*block);
      const auto weights = block->named_parameters();
      const Maps ours = mixed_inputs();
      const Maps theirs = mixed_inputs();
      const std::vector<Size> sizes = sizes_after(kind, ours);
      const Maps y = block->forward(ours, sizes);

      // Written out: convolve each, put all values of a channel in a row, normalise the rows.
      std::vector<torch::Tensor> convolved, rows;
      for (std::size_t i = 0; i < theirs.size(); ++i) {
        const bool is_conv = kind == BlockImpl::Kind::conv;
        convolved.push_back(
            is_conv ? torch::conv2d(theirs[i], weights["conv.weight"].detach(),
                                    weights["conv.bias"].detach(), /*stride=*/2, /*padding=*/1)
                    : torch::conv_transpose2d(theirs[i], weights["conv.weight"].detach(),
                                              weights["conv.bias"].detach(), /*stride=*/2,
                                              /*padding=*/1, /*output_padding=*/{1, 0}));
        if (order == Order::conv_act_bn) convolved.back() = torch::silu(convolved.back());
        rows.push_back(convolved.back().transpose(0, 1).flatten(1));
      }
      const torch::Tensor all = torch::cat(rows, 1);  // (C, values)
      const auto row = [](const torch::Tensor& x) { return x.detach().view({1, -1, 1, 1}); };
      const torch::Tensor mean = all.mean(1).view({1, -1, 1, 1});
      const torch::Tensor deviation = (all.var(1, false) + 1e-5).sqrt().view({1, -1, 1, 1});
      torch::Tensor ours_sum = torch::zeros({}), theirs_sum = torch::zeros({});
      for (std::size_t i = 0; i < y.size(); ++i) {
        torch::Tensor expected = (convolved[i] - mean) / deviation * row(weights["norm.weight"]) +
                                 row(weights["norm.bias"]);
        if (order == Order::conv_bn_act) expected = torch::silu(expected);
        EXPECT_LE(difference(y[i], expected), 2e-5) << "map " << i;
        EXPECT_TRUE(y[i].is_contiguous(torch::MemoryFormat::ChannelsLast)) << "map " << i;
        const torch::Tensor direction = gaussian(expected.sizes(), 60 + i);
        ours_sum = ours_sum + (y[i] * direction).sum();
        theirs_sum = theirs_sum + (expected * direction).sum();
      }
      ours_sum.backward();
      theirs_sum.backward();
      for (std::size_t i = 0; i < y.size(); ++i) {
        EXPECT_LE(difference(ours[i].grad(), theirs[i].grad()), 5e-5) << "map " << i;
      }
      const auto buffers = block->named_buffers();
      EXPECT_LE(difference(buffers["norm.running_mean"], all.mean(1)), 1e-5);
      EXPECT_LE(difference(buffers["norm.running_var"], all.var(1, true)), 1e-3);
      EXPECT_EQ(buffers["norm.num_batches_tracked"].item<std::int64_t>(), 1);
    }
  }
}

TEST(BlockTest, MapsDoNotSeeEachOtherInEvaluationOrWithoutBatchNorm) {
  torch::NoGradGuard no_grad;
  for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
    for (const bool training : {true, false}) {
      if (norm == Norm::batch && training) continue;
      ModelOptions options;
      options.norm = norm;
      Block block(BlockImpl::Kind::conv, 3, LevelSpec{4}, options, /*activated=*/true);
      randomise(*block);
      block->train(training);
      const Maps maps = mixed_inputs();
      const std::vector<Size> sizes = sizes_after(BlockImpl::Kind::conv, maps);
      const Maps together = block->forward(maps, sizes);
      for (std::size_t i = 0; i < maps.size(); ++i) {
        const torch::Tensor alone = block->forward(Maps{maps[i]}, {sizes[i]})[0];
        EXPECT_LE(difference(together[i], alone), 1e-6) << to_string(norm) << ", map " << i;
      }
    }
  }
}

}  // namespace
}  // namespace convae::test_blocks
