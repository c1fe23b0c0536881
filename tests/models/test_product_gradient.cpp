// Against LibTorch's own convolutions, values and gradients.
#include "convae/models/kernels/product_gradient.h"
#include "convae/tests/support.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace convae::test_product_gradient {
namespace {

using test::channels_last_input;
using test::difference;
using test::gaussian;

torch::Tensor theirs(const torch::Tensor& x, const torch::Tensor& weight, const LevelSpec& l,
                     bool transposed, Size output_padding) {
  return at::convolution(x, weight, /*bias=*/{}, per_axis(l.stride), per_axis(l.padding),
                         per_axis(l.dilation), transposed, per_axis(output_padding), /*groups=*/1);
}

void expect_theirs(const LevelSpec& level, bool transposed, Size map, Size output_padding = {}) {
  SCOPED_TRACE((transposed ? "transposed " : "") + to_string(level) + " on " + to_string(map) +
               ", output_padding " + to_string(output_padding));
  const torch::Tensor x = channels_last_input({3, 4, map.h, map.w}, 1);
  const torch::Tensor weight = channels_last_input(
      {transposed ? 4 : 5, transposed ? 5 : 4, level.kernel.h, level.kernel.w}, 2);
  const torch::Tensor expected = theirs(x, weight, level, transposed, output_padding);
  const torch::Tensor direction = gaussian(expected.sizes(), 3);
  const auto gradients = torch::autograd::grad({(expected * direction).sum()}, {x, weight});
  const torch::Tensor found =
      convolution_with_products(x, weight, level, transposed, output_padding);
  ASSERT_LE(difference(found, expected), 1e-5);
  const auto found_gradients = torch::autograd::grad({(found * direction).sum()}, {x, weight});
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_LE(difference(found_gradients[i], gradients[i]), 1e-4);
  }
}

TEST(ProductGradient, EverySettingGivesWhatAConvolutionGives) {
  for (std::int64_t kernel = 1; kernel <= 4; ++kernel) {
    for (std::int64_t stride = 1; stride <= 3; ++stride) {
      for (std::int64_t padding = 0; padding < kernel; ++padding) {
        for (std::int64_t dilation = 1; dilation <= 2; ++dilation) {
          const LevelSpec level{5, {kernel, 3}, {stride, 2}, {padding, 1}, {dilation, 1}};
          const LevelSpec turned{5, {3, kernel}, {2, stride}, {1, padding}, {1, dilation}};
          expect_theirs(level, /*transposed=*/false, {9, 8});
          expect_theirs(turned, /*transposed=*/false, {8, 9});
          expect_theirs(level, /*transposed=*/true, {7, 8}, {0, 1});
          expect_theirs(turned, /*transposed=*/true, {8, 7}, {1, 0});
        }
      }
    }
  }
}

TEST(ProductGradient, MapsOfOnePixel) {
  const LevelSpec level{5, {3, 3}, {2, 2}, {1, 1}, {1, 1}};
  expect_theirs(level, /*transposed=*/false, {1, 1});
  expect_theirs(level, /*transposed=*/true, {1, 1}, {1, 1});
}

/// Enough for several parts; in bfloat16, as training does.
torch::Tensor gradient_in_bf16(const torch::Tensor& weight, const LevelSpec& level) {
  const torch::Tensor x = channels_last_input({8, 32, 34, 34}, 1).detach().to(torch::kBFloat16);
  const torch::Tensor y =
      convolution_with_products(x, weight.to(torch::kBFloat16), level, /*transposed=*/false, {});
  const torch::Tensor direction = gaussian(y.sizes(), 3).to(torch::kBFloat16);
  return torch::autograd::grad({y}, {weight}, {direction})[0];
}

TEST(ProductGradient, BFloat16IsSummedInFloatAndAlikeForAnyNumberOfThreads) {
  const LevelSpec level{40, {3, 3}, {2, 2}, {1, 1}, {1, 1}};
  const torch::Tensor weight = channels_last_input({40, 32, 3, 3}, 2);
  const torch::Tensor found = gradient_in_bf16(weight, level);
  const torch::Tensor x = channels_last_input({8, 32, 34, 34}, 1).detach().to(torch::kBFloat16);
  const torch::Tensor expected_of = theirs(x.to(torch::kFloat), weight, level, false, {});
  const torch::Tensor direction =
      gaussian(expected_of.sizes(), 3).to(torch::kBFloat16).to(torch::kFloat);
  const torch::Tensor expected = torch::autograd::grad({expected_of}, {weight}, {direction})[0];
  EXPECT_LE(((found - expected).norm() / expected.norm()).item<double>(), 3e-3);
  const int threads = at::get_num_threads();
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    EXPECT_TRUE(torch::equal(gradient_in_bf16(weight, level), found)) << count << " threads";
  }
  at::set_num_threads(threads);
}

TEST(ProductGradient, WhatSuits) {
  const torch::Tensor x = torch::zeros({1, 32, 4, 4}, torch::kBFloat16);
  const torch::Tensor weight = torch::zeros({64, 32, 3, 3});
#if defined(__x86_64__)
  EXPECT_EQ(suits_products(x, weight),
            __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_supports("amx-bf16"));
#endif
  EXPECT_FALSE(suits_products(x, torch::zeros({64, 3, 3, 3}))) << "few columns";
  EXPECT_FALSE(suits_products(x.to(torch::kFloat), weight)) << "LibTorch is as fast there";
  EXPECT_FALSE(suits_products(x.narrow(0, 0, 0), weight));
  const torch::NoGradGuard no_grad;
  EXPECT_FALSE(suits_products(x, weight)) << "no gradient wanted";
}

}  // namespace
}  // namespace convae::test_product_gradient
