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

torch::Tensor theirs(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                     const LevelSpec& l, bool transposed, Size output_padding) {
  return at::convolution(x, weight, bias, per_axis(l.stride), per_axis(l.padding),
                         per_axis(l.dilation), transposed, per_axis(output_padding), /*groups=*/1);
}

void expect_theirs(const LevelSpec& level, bool transposed, Size map, Size output_padding = {}) {
  SCOPED_TRACE((transposed ? "transposed " : "") + to_string(level) + " on " + to_string(map) +
               ", output_padding " + to_string(output_padding));
  const torch::Tensor x = channels_last_input({3, 4, map.h, map.w}, 1);
  const torch::Tensor weight = channels_last_input(
      {transposed ? 4 : 5, transposed ? 5 : 4, level.kernel.h, level.kernel.w}, 2);
  const torch::Tensor some_bias = gaussian({5}, 4).requires_grad_();
  for (const torch::Tensor& bias : {torch::Tensor(), some_bias}) {
    std::vector<torch::Tensor> inputs{x, weight};
    if (bias.defined()) inputs.push_back(bias);
    const torch::Tensor expected = theirs(x, weight, bias, level, transposed, output_padding);
    const torch::Tensor direction = gaussian(expected.sizes(), 3);
    const auto gradients = torch::autograd::grad({(expected * direction).sum()}, inputs);
    const torch::Tensor found =
        convolution_with_products(x, weight, bias, level, transposed, output_padding);
    ASSERT_LE(difference(found, expected), 1e-5);
    const auto found_gradients = torch::autograd::grad({(found * direction).sum()}, inputs);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      EXPECT_LE(difference(found_gradients[i], gradients[i]), 1e-4);
    }
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

/// Of weight and bias. Enough for several parts; in bfloat16, as training does.
std::vector<torch::Tensor> gradients_in_bf16(const torch::Tensor& weight, const torch::Tensor& bias,
                                             const LevelSpec& level) {
  const torch::Tensor x = channels_last_input({8, 32, 34, 34}, 1).detach().to(torch::kBFloat16);
  const torch::Tensor y = convolution_with_products(x, weight.to(torch::kBFloat16), bias, level,
                                                    /*transposed=*/false, {});
  const torch::Tensor direction = gaussian(y.sizes(), 3).to(torch::kBFloat16);
  return torch::autograd::grad({y}, {weight, bias}, {direction});
}

TEST(ProductGradient, BFloat16IsSummedInFloatAndAlikeForAnyNumberOfThreads) {
  const LevelSpec level{40, {3, 3}, {2, 2}, {1, 1}, {1, 1}};
  const torch::Tensor weight = channels_last_input({40, 32, 3, 3}, 2);
  const torch::Tensor bias = gaussian({40}, 4).requires_grad_();
  const auto found = gradients_in_bf16(weight, bias, level);
  const torch::Tensor x = channels_last_input({8, 32, 34, 34}, 1).detach().to(torch::kBFloat16);
  const torch::Tensor in_float = theirs(x.to(torch::kFloat), weight, bias, level, false, {});
  const torch::Tensor direction =
      gaussian(in_float.sizes(), 3).to(torch::kBFloat16).to(torch::kFloat);
  const auto expected = torch::autograd::grad({in_float}, {weight, bias}, {direction});
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(found[i].scalar_type(), torch::kFloat);
    EXPECT_LE(((found[i] - expected[i]).norm() / expected[i].norm()).item<double>(), 3e-3);
  }
  const int threads = at::get_num_threads();
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    const auto again = gradients_in_bf16(weight, bias, level);
    for (std::size_t i = 0; i < again.size(); ++i) {
      EXPECT_TRUE(torch::equal(again[i], found[i])) << count << " threads";
    }
  }
  at::set_num_threads(threads);
}

TEST(ProductGradient, WhatSuits) {
  const torch::Tensor x = torch::zeros({1, 32, 4, 4}, torch::kBFloat16);
  const torch::Tensor weight = torch::zeros({64, 32, 3, 3});
#if defined(__x86_64__)
  EXPECT_EQ(suits_products(x, weight), bool(__builtin_cpu_supports("avx512bf16")));
#endif
  EXPECT_FALSE(suits_products(x, torch::zeros({64, 3, 3, 3}))) << "few columns";
  EXPECT_FALSE(suits_products(x.to(torch::kFloat), weight)) << "LibTorch is as fast there";
  EXPECT_FALSE(suits_products(x.narrow(0, 0, 0), weight));
  const torch::NoGradGuard no_grad;
  EXPECT_FALSE(suits_products(x, weight)) << "no gradient wanted";
}

}  // namespace
}  // namespace convae::test_product_gradient
