// Against LibTorch's own transposed convolution, values and gradients.
#include "convae/models/kernels/subpixel.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace convae::test_subpixel {
namespace {

using test::channels_last_input;
using test::difference;
using test::gaussian;

torch::Tensor theirs(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                     const LevelSpec& l, Size output_padding) {
  return torch::conv_transpose2d(x, weight, bias, per_axis(l.stride), per_axis(l.padding),
                                 per_axis(output_padding), /*groups=*/1, per_axis(l.dilation));
}

/// Every output_padding that the stride allows, on a map of height × width.
void expect_theirs(const LevelSpec& level, std::int64_t height, std::int64_t width) {
  const std::int64_t channels = level.channels;
  for (std::int64_t h = 0; h < level.stride.h; ++h) {
    for (std::int64_t w = 0; w < level.stride.w; ++w) {
      const Size least{level.vertical().conv_transpose_length(height, h),
                       level.horizontal().conv_transpose_length(width, w)};
      if (least.h < 1 || least.w < 1) continue;
      SCOPED_TRACE(to_string(level) + " on " + to_string(Size{height, width}) +
                   ", output_padding " + to_string(Size{h, w}));
      const torch::Tensor x = channels_last_input({2, 5, height, width}, 1);
      const torch::Tensor weight =
          channels_last_input({5, channels, level.kernel.h, level.kernel.w}, 2);
      const torch::Tensor bias = gaussian({channels}, 3).requires_grad_();
      const torch::Tensor expected = theirs(x, weight, bias, level, {h, w});
      const torch::Tensor direction = gaussian(expected.sizes(), 4);
      const auto gradients =
          torch::autograd::grad({(expected * direction).sum()}, {x, weight, bias});
      const torch::Tensor found = subpixel_conv_transpose(x, weight, bias, level, {h, w});
      ASSERT_LE(difference(found, expected), 1e-5);
      EXPECT_TRUE(found.is_contiguous(torch::MemoryFormat::ChannelsLast));
      const auto found_gradients =
          torch::autograd::grad({(found * direction).sum()}, {x, weight, bias});
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        EXPECT_LE(difference(found_gradients[i], gradients[i]), 1e-4);
      }
      const torch::NoGradGuard no_grad;
      EXPECT_LE(difference(subpixel_conv_transpose(x, weight, {}, level, {h, w}),
                           theirs(x, weight, {}, level, {h, w})),
                1e-5);
    }
  }
}

TEST(Subpixel, EverySettingGivesWhatATransposedConvolutionGives) {
  for (std::int64_t kernel = 1; kernel <= 5; ++kernel) {
    for (std::int64_t stride = 1; stride <= 3; ++stride) {
      for (std::int64_t padding = 0; padding <= kernel; ++padding) {
        for (std::int64_t dilation = 1; dilation <= 3; ++dilation) {
          const LevelSpec level{3, {kernel, 3}, {stride, 2}, {padding, 1}, {dilation, 1}};
          expect_theirs(level, /*height=*/4, /*width=*/3);
          const LevelSpec turned{1, {3, kernel}, {2, stride}, {1, padding}, {1, dilation}};
          expect_theirs(turned, /*height=*/3, /*width=*/5);
        }
      }
    }
  }
}

TEST(Subpixel, MapsOfOnePixel) { expect_theirs({4, {3, 3}, {2, 2}, {1, 1}, {1, 1}}, 1, 1); }

TEST(Subpixel, WhatSuits) {
  const torch::Tensor x = torch::zeros({1, 8, 4, 4});
  const auto suits = [](const torch::Tensor& map, std::int64_t channels, const std::string& level) {
    return suits_subpixels(map, channels, parse_levels(level, {})[0]);
  };
  EXPECT_TRUE(suits(x, 3, "8:k3s2p1"));
  EXPECT_TRUE(suits(x, 1, "8:k4s2p1"));
  EXPECT_TRUE(suits(x, 3, "8:k5x3s2x1p2x1"));
  EXPECT_FALSE(suits(x, 3, "8:k3s1p1")) << "an ordinary convolution already";
  EXPECT_FALSE(suits(x, 8, "8:k3s2p1")) << "LibTorch is fast there";
  EXPECT_FALSE(suits(x, 3, "8:k2s2p1")) << "three of four taps would be zero";
  EXPECT_FALSE(suits(x.to(torch::kDouble), 3, "8:k3s2p1"));
  EXPECT_FALSE(suits(x.narrow(0, 0, 0), 3, "8:k3s2p1"));
}

}  // namespace
}  // namespace convae::test_subpixel
