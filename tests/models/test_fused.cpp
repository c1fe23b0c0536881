// The fused passes against LibTorch's own operations, values and gradients. tests/CMakeLists.txt
// runs them once for every instruction set that LibTorch (ATEN_CPU_CAPABILITY) knows.
#include "convae/models/blocks.h"
#include "convae/models/kernels/fused.h"
#include "convae/models/kernels/rank_sums.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <mutex>
#include <thread>
#include <tuple>

namespace convae::test_fused {
namespace {

constexpr double kEpsilon = 1e-5;

Maps random_maps(std::int64_t channels, const std::vector<std::array<std::int64_t, 3>>& shapes,
                 double offset = 0.3) {
  Maps maps;
  for (const auto& [n, h, w] : shapes) {
    maps.push_back((torch::randn({n, channels, h, w}) * 2 + offset)
                       .contiguous(torch::MemoryFormat::ChannelsLast));
  }
  return maps;
}

/// All pixels of all maps as rows: (M, C).
torch::Tensor rows_of(const Maps& maps) {
  std::vector<torch::Tensor> rows;
  for (const torch::Tensor& x : maps) {
    rows.push_back(x.permute({0, 2, 3, 1}).reshape({-1, x.size(1)}));
  }
  return torch::cat(rows);
}

/// What the fused pass replaces, one LibTorch operation after the other, in double.
torch::Tensor plain_tail(const torch::Tensor& rows, const BlockTail& tail) {
  const auto as_double = [](const torch::Tensor& x) { return x.to(torch::kDouble); };
  torch::Tensor x = as_double(rows);
  if (tail.conv_bias.defined()) x = x + as_double(tail.conv_bias);
  const auto normalise = [&](const torch::Tensor& v) {
    if (!tail.norm_weight.defined()) return v;
    return torch::batch_norm(v, as_double(tail.norm_weight), as_double(tail.norm_bias), {}, {},
                             /*training=*/true, 0.1, kEpsilon, false);
  };
  return tail.order == Order::conv_bn_act ? activate(normalise(x), tail.activation)
                                          : normalise(activate(x, tail.activation));
}

void expect_close(const torch::Tensor& actual, const torch::Tensor& expected, const char* what,
                  double tolerance = 1e-4, double floor = 0) {
  const torch::Tensor a = actual.to(torch::kDouble);
  const torch::Tensor e = expected.to(torch::kDouble);
  const double scale = e.abs().max().item<double>();
  const double worst = (a - e).abs().max().item<double>();
  EXPECT_LE(worst, tolerance * std::max(scale, floor)) << what;
}

struct Leaves {
  torch::Tensor conv_bias, weight, bias;
  BlockTail tail(Order order, Activation activation) const {
    return {conv_bias, weight, bias, order, activation};
  }
};

Leaves random_leaves(std::int64_t channels, bool normalised) {
  Leaves leaves{torch::randn({channels}), {}, {}};
  if (normalised) {
    leaves.weight = torch::rand({channels}) + 0.5;
    leaves.bias = torch::randn({channels});
  }
  return leaves;
}

const std::vector<std::vector<std::array<std::int64_t, 3>>> kShapes = {
    {{4, 9, 7}}, {{6, 1, 1}}, {{3, 24, 24}, {1, 13, 40}, {2, 1, 1}}, {{1, 61, 83}}};

using TailCase = std::tuple<Order, Activation, bool, std::int64_t>;
class FusedTail : public testing::TestWithParam<TailCase> {};

TEST_P(FusedTail, EqualsLibTorchInValuesAndGradients) {
  const auto [order, activation, normalised, channels] = GetParam();
  for (const auto& shapes : kShapes) {
    torch::manual_seed(7);
    Maps maps = random_maps(channels, shapes), copies;
    for (torch::Tensor& x : maps) {
      copies.push_back(x.clone().requires_grad_());
      x.requires_grad_();
    }
    const Leaves fused_leaves = random_leaves(channels, normalised);
    Leaves plain_leaves;
    std::vector<std::pair<torch::Tensor, torch::Tensor>> pairs;
    const auto twin = [&](const torch::Tensor& leaf) {
      if (!leaf.defined()) return torch::Tensor();
      torch::Tensor copy = leaf.clone().requires_grad_();
      torch::Tensor original = leaf;
      original.requires_grad_();
      pairs.emplace_back(original, copy);
      return copy;
    };
    plain_leaves = {twin(fused_leaves.conv_bias), twin(fused_leaves.weight),
                    twin(fused_leaves.bias)};

    ASSERT_TRUE(can_fuse(maps));
    BatchStatistics statistics;
    const Maps fused =
        fused_training_tail(maps, fused_leaves.tail(order, activation), kEpsilon, &statistics);
    const torch::Tensor plain = plain_tail(rows_of(copies), plain_leaves.tail(order, activation));
    expect_close(rows_of(fused), plain, "values");

    const torch::Tensor weights = torch::randn(plain.sizes(), torch::kDouble);
    (rows_of(fused).to(torch::kDouble) * weights).sum().backward();
    (plain * weights).sum().backward();
    for (std::size_t i = 0; i < maps.size(); ++i) {
      EXPECT_EQ(fused[i].sizes(), maps[i].sizes());
      EXPECT_TRUE(maps[i].grad().is_contiguous(torch::MemoryFormat::ChannelsLast));
      const double scale = rows_of({copies[i].grad()}).abs().max().item<double>();
      EXPECT_LE((maps[i].grad() - copies[i].grad()).abs().max().item<double>(),
                1e-4 * std::max(scale, 0.1))
          << "gradient of map " << i;
    }
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const bool bias_without_effect = i == 0 && normalised && order == Order::conv_bn_act;
      if (bias_without_effect) {
        EXPECT_EQ(pairs[i].first.grad().abs().max().item<double>(), 0.0);
        EXPECT_LT(pairs[i].second.grad().abs().max().item<double>(), 1e-4);
      } else {
        // Sums that cancel are no more exact than their terms, which are of the order of 1.
        expect_close(pairs[i].first.grad(), pairs[i].second.grad(), "gradient of a parameter", 1e-4,
                     /*floor=*/0.1);
      }
    }
    if (!normalised) continue;
    torch::NoGradGuard no_grad;
    torch::Tensor seen = rows_of(copies).to(torch::kDouble) + plain_leaves.conv_bias;
    if (order == Order::conv_act_bn) seen = activate(seen, activation);
    expect_close(statistics.mean, seen.mean(0), "mean", 1e-5);
    expect_close(statistics.variance, seen.var(0, /*unbiased=*/false), "variance", 1e-4);
    EXPECT_EQ(statistics.count, seen.size(0));
  }
}

/// What two threads give it becomes the sum of both.
class SumOfTwo {
public:
  static void add(const at::Tensor& values) {
    {
      const std::lock_guard lock(mutex_);
      total_ = total_.defined() ? total_ + values : values.clone();
    }
    added_.arrive_and_wait();
    values.copy_(total_);
    taken_.arrive_and_wait();
  }

private:
  static void clear() noexcept { total_.reset(); }
  inline static std::mutex mutex_;
  inline static torch::Tensor total_;
  inline static std::barrier<> added_{2};
  inline static std::barrier<void (*)() noexcept> taken_{2, &clear};
};

TEST(FusedTailOfRanks, TwoThatAddTheirSumsEqualOneWithAllImages) {
  torch::manual_seed(5);
  const Maps all = random_maps(6, {{3, 9, 7}, {1, 13, 40}});
  const Leaves leaves = random_leaves(6, /*normalised=*/true);
  const Maps weights = random_maps(6, {{3, 9, 7}, {1, 13, 40}});
  struct Passed {
    Maps x, z;
    Leaves leaves;
    BatchStatistics statistics;
  };
  const auto pass = [&](const Maps& maps, const Maps& weighted) {
    Passed p;
    for (const torch::Tensor& x : maps) p.x.push_back(x.clone().requires_grad_());
    const auto copy = [](const torch::Tensor& leaf) { return leaf.clone().requires_grad_(); };
    p.leaves = {copy(leaves.conv_bias), copy(leaves.weight), copy(leaves.bias)};
    p.z = fused_training_tail(p.x, p.leaves.tail(Order::conv_act_bn, Activation::silu), kEpsilon,
                              &p.statistics);
    torch::Tensor loss = torch::zeros({});
    for (std::size_t i = 0; i < p.z.size(); ++i) loss = loss + (p.z[i] * weighted[i]).sum();
    loss.backward();
    return p;
  };
  const Passed whole = pass(all, weights);
  rank_sums().sum = &SumOfTwo::add;
  Passed parts[2];
  {
    std::jthread other([&] { parts[1] = pass({all[1]}, {weights[1]}); });
    parts[0] = pass({all[0]}, {weights[0]});
  }
  rank_sums().sum = nullptr;
  for (const int i : {0, 1}) {
    expect_close(parts[i].z[0], whole.z[i], "values");
    expect_close(parts[i].x[0].grad(), whole.x[i].grad(), "gradient of a map");
    expect_close(parts[i].statistics.mean, whole.statistics.mean, "mean");
    EXPECT_EQ(parts[i].statistics.count, whole.statistics.count);
  }
  const auto expect_sum = [&](torch::Tensor Leaves::*leaf) {
    expect_close((parts[0].leaves.*leaf).grad() + (parts[1].leaves.*leaf).grad(),
                 (whole.leaves.*leaf).grad(), "gradient of a parameter", 1e-4);
  };
  expect_sum(&Leaves::conv_bias);
  expect_sum(&Leaves::weight);
  expect_sum(&Leaves::bias);
}

TEST_P(FusedTail, InferenceEqualsLibTorch) {
  const auto [order, activation, normalised, channels] = GetParam();
  torch::NoGradGuard no_grad;
  for (const auto& shapes : kShapes) {
    torch::manual_seed(8);
    torch::Tensor x = random_maps(channels, shapes)[0];
    const Leaves leaves = random_leaves(channels, normalised);
    const BlockTail tail = leaves.tail(order, activation);
    torch::Tensor scale;
    torch::Tensor shift;
    if (normalised) {
      scale = torch::rand({channels}) + 0.5;
      shift = torch::randn({channels});
    }
    const auto column = [&](const torch::Tensor& v) { return v.view({1, -1, 1, 1}); };
    const auto normalise = [&](const torch::Tensor& v) {
      return normalised ? v * column(scale) + column(shift) : v;
    };
    const torch::Tensor biased = x + column(leaves.conv_bias);
    const torch::Tensor expected = order == Order::conv_bn_act
                                       ? activate(normalise(biased), activation)
                                       : normalise(activate(biased, activation));
    fused_inference_tail_(x, tail, scale, shift);
    expect_close(x, expected, "values", 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FusedTail,
                         testing::Combine(testing::Values(Order::conv_bn_act, Order::conv_act_bn),
                                          testing::Values(Activation::relu, Activation::leaky_relu,
                                                          Activation::silu, Activation::gelu),
                                          testing::Bool(), testing::Values(1, 3, 20, 32, 65, 300)));

TEST(FusedTailTest, ChannelsFarFromZeroKeepTheirVariance) {
  torch::manual_seed(1);
  const Maps maps{
      (torch::randn({4, 8, 33, 31}) * 0.01 + 100).contiguous(torch::MemoryFormat::ChannelsLast)};
  BatchStatistics statistics;
  const BlockTail tail{
      {}, torch::ones({8}), torch::zeros({8}), Order::conv_bn_act, Activation::relu};
  fused_training_tail(maps, tail, kEpsilon, &statistics);
  expect_close(statistics.variance, rows_of(maps).to(torch::kDouble).var(0, /*unbiased=*/false),
               "variance", 1e-3);
}

TEST(FusedTailTest, NotANumberIsNotHidden) {
  for (const Order order : {Order::conv_bn_act, Order::conv_act_bn}) {
    for (const Activation activation :
         {Activation::relu, Activation::leaky_relu, Activation::silu, Activation::gelu}) {
      Maps maps = random_maps(4, {{1, 5, 5}});
      maps[0][0][2][3][3] = std::numeric_limits<float>::quiet_NaN();
      const BlockTail plain{torch::zeros({4}), {}, {}, order, activation};
      EXPECT_TRUE(
          fused_training_tail(maps, plain, kEpsilon, nullptr)[0][0][2][3][3].isnan().item<bool>());
    }
  }
}

TEST(FusedTailTest, TheSameBitsWhateverTheNumberOfThreads) {
  torch::manual_seed(2);
  const Maps maps = random_maps(24, {{3, 65, 70}});
  const BlockTail tail{torch::zeros({24}), torch::ones({24}), torch::zeros({24}),
                       Order::conv_act_bn, Activation::silu};
  const int before = torch::get_num_threads();
  torch::set_num_threads(1);
  const torch::Tensor one = fused_training_tail(maps, tail, kEpsilon, nullptr)[0];
  torch::set_num_threads(4);
  const torch::Tensor four = fused_training_tail(maps, tail, kEpsilon, nullptr)[0];
  torch::set_num_threads(before);
  EXPECT_TRUE(torch::equal(one, four));
}

TEST(FusedTailTest, BFloat16MapsAreComputedInFloat) {
  torch::manual_seed(3);
  for (const Order order : {Order::conv_bn_act, Order::conv_act_bn}) {
    const Maps exact = random_maps(20, {{2, 9, 11}});
    const Maps rounded{exact[0].to(torch::kBFloat16).requires_grad_()};
    const Maps same{rounded[0].detach().to(torch::kFloat).requires_grad_()};
    const BlockTail tail{torch::randn({20}), torch::ones({20}), torch::zeros({20}), order,
                         Activation::silu};
    const torch::Tensor low = fused_training_tail(rounded, tail, kEpsilon, nullptr)[0];
    const torch::Tensor high = fused_training_tail(same, tail, kEpsilon, nullptr)[0];
    EXPECT_EQ(low.scalar_type(), torch::kBFloat16);
    expect_close(low, high, "values", 0.01);
    const torch::Tensor weights = torch::randn(high.sizes()).to(torch::kBFloat16);
    low.backward(weights);
    high.backward(weights.to(torch::kFloat));
    expect_close(rounded[0].grad(), same[0].grad(), "gradients", 0.01);
  }
}

/// The block as a whole: training and evaluation with the fused pass and, in double, without.
TEST(FusedBlock, EqualsThePlainModules) {
  for (const Norm norm : {Norm::batch, Norm::none}) {
    for (const auto kind : {BlockImpl::Kind::conv, BlockImpl::Kind::conv_transpose}) {
      torch::manual_seed(4);
      ModelOptions options;
      options.norm = norm;
      const LevelSpec level{24, {3, 3}, {2, 2}, {1, 1}, {1, 1}};
      Block fused(kind, 5, level, options, /*activated=*/true);
      Block plain(kind, 5, level, options, /*activated=*/true);
      {
        torch::NoGradGuard no_grad;
        auto from = fused->named_parameters();
        for (auto& parameter : plain->named_parameters()) {
          parameter.value().copy_(from[parameter.key()]);
        }
      }
      plain->to(torch::kDouble);
      const std::vector<Size> sizes = kind == BlockImpl::Kind::conv
                                          ? std::vector<Size>{{7, 6}, {5, 9}}
                                          : std::vector<Size>{{26, 23}, {17, 34}};
      const Maps images = random_maps(5, {{2, 13, 12}, {3, 9, 17}});
      Maps doubles;
      for (const torch::Tensor& x : images) doubles.push_back(x.to(torch::kDouble));
      const Maps a = fused->forward(images, sizes);
      const Maps b = plain->forward(doubles, sizes);
      for (std::size_t i = 0; i < a.size(); ++i) {
        ASSERT_EQ(a[i].size(2), sizes[i].h);
        expect_close(a[i], b[i], "training");
      }
      torch::NoGradGuard no_grad;
      fused->eval();
      plain->eval();
      const Maps c = fused->forward(images, sizes);
      const Maps d = plain->forward(doubles, sizes);
      for (std::size_t i = 0; i < c.size(); ++i) expect_close(c[i], d[i], "evaluation");
    }
  }
}

}  // namespace
}  // namespace convae::test_fused
