#include "convae/models/geometry.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <random>

namespace convae::test_geometry {
namespace {

using test::contains;
using test::message_of;

/// Length of a real convolution of a real signal, or nullopt where LibTorch refuses.
std::optional<std::int64_t> real_conv_length(std::int64_t n, std::int64_t k, std::int64_t s,
                                             std::int64_t p, std::int64_t d) {
  try {
    return torch::conv1d(torch::zeros({1, 1, n}), torch::zeros({1, 1, k}), {}, s, p, d).size(2);
  } catch (const c10::Error&) {
    return std::nullopt;
  }
}

std::int64_t real_conv_transpose_length(std::int64_t m, std::int64_t k, std::int64_t s,
                                        std::int64_t p, std::int64_t d, std::int64_t op) {
  return torch::conv_transpose1d(torch::zeros({1, 1, m}), torch::zeros({1, 1, k}), {}, s, p, op,
                                 /*groups=*/1, d)
      .size(2);
}

TEST(Geometry, EverySmallAxisAgreesWithRealConvolutions) {
  torch::NoGradGuard no_grad;
  std::int64_t legal = 0;
  for (std::int64_t k = 1; k <= 7; ++k)
    for (std::int64_t s = 1; s <= 4; ++s)
      for (std::int64_t p = 0; p <= 3; ++p)
        for (std::int64_t d = 1; d <= 3; ++d)
          for (std::int64_t n = 1; n <= 40; ++n) {
            SCOPED_TRACE(testing::Message()
                         << "n " << n << " k " << k << " s " << s << " p " << p << " d " << d);
            const Axis axis{k, s, p, d};
            const auto m = axis.conv_length(n);
            ASSERT_EQ(m, real_conv_length(n, k, s, p, d));
            if (!m) continue;
            ++legal;
            const std::int64_t op = axis.output_padding_for(n);
            ASSERT_GE(op, 0);
            ASSERT_LT(op, s);
            ASSERT_EQ(axis.conv_transpose_length(*m, op), n);
            ASSERT_EQ(real_conv_transpose_length(*m, k, s, p, d, op), n);
          }
  EXPECT_GT(legal, 10000);
}

TEST(Geometry, DifferentAxesSeveralLevelsDeepComeBackThroughRealConvolutions) {
  torch::NoGradGuard no_grad;
  std::mt19937 random(7);
  const auto draw = [&](int low, int high) {
    return static_cast<std::int64_t>(std::uniform_int_distribution(low, high)(random));
  };
  const auto pair = [&](int low, int high) { return Size{draw(low, high), draw(low, high)}; };
  int possible = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<LevelSpec> levels;
    for (std::int64_t i = draw(1, 4); i > 0; --i) {
      levels.push_back({draw(1, 3), pair(1, 7), pair(1, 4), pair(0, 3), pair(1, 3)});
    }
    const Size input = pair(1, 60);
    if (const auto reason = why_impossible(levels, input)) {
      EXPECT_THROW(plan_sizes(levels, input, 2), GeometryError);
      continue;
    }
    ++possible;
    const Plan plan = plan_sizes(levels, input, 2);
    torch::Tensor x = torch::zeros({1, 2, input.h, input.w});
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const LevelSpec& l = levels[i];
      x = torch::conv2d(x, torch::zeros({l.channels, x.size(1), l.kernel.h, l.kernel.w}), {},
                        per_axis(l.stride), per_axis(l.padding), per_axis(l.dilation));
      ASSERT_EQ((Size{x.size(2), x.size(3)}), plan.levels[i].out);
    }
    for (std::size_t i = levels.size(); i-- > 0;) {
      const LevelSpec& l = levels[i];
      x = torch::conv_transpose2d(
          x, torch::zeros({l.channels, plan.levels[i].in_channels, l.kernel.h, l.kernel.w}), {},
          per_axis(l.stride), per_axis(l.padding), per_axis(plan.levels[i].output_padding), 1,
          per_axis(l.dilation));
      ASSERT_EQ((Size{x.size(2), x.size(3)}), plan.levels[i].in);
    }
    ASSERT_EQ(x.sizes(), (std::vector<std::int64_t>{1, 2, input.h, input.w}));
  }
  EXPECT_GT(possible, 500);
}

TEST(Geometry, ImpossiblePlansNameLevelAxisSizesAndWaysOut) {
  const auto levels = parse_levels("8:k3s2p1,8:k3x5s1p0", LevelSpec{});
  const std::string reason = *why_impossible(levels, {9, 7});
  EXPECT_EQ(reason,
            "input 9x7 cannot pass level 2: its width is 4 there, 4 with padding 0 on both sides, "
            "but kernel 5 with dilation 1 spans 5; use an input of at least 5x9, or a padding "
            "of at least 1 at that level, or fewer levels");
  const std::string of_first = *why_impossible(parse_levels("8:k7p0", LevelSpec{}), {6, 6});
  EXPECT_TRUE(
      of_first.ends_with("use an input of at least 7x7, or a padding of at least 1 at that "
                         "level"))
      << of_first;
  EXPECT_EQ(smallest_input(levels), (Size{5, 9}));
  EXPECT_FALSE(why_impossible(levels, {5, 9}));
  EXPECT_TRUE(why_impossible(levels, {4, 9}));
  EXPECT_TRUE(why_impossible(levels, {5, 8}));
}

TEST(Geometry, LevelsThatCannotBeAreRefusedWhateverIsAsked) {
  LevelSpec level{4};
  level.stride = {0, 2};
  EXPECT_THROW(plan_sizes({level}, {5, 5}, 3), GeometryError);
  EXPECT_THROW(why_impossible({level}, {5, 5}), GeometryError);
}

TEST(Geometry, SidesOutOfRangeAreRefused) {
  const std::vector<LevelSpec> levels = {LevelSpec{4}};
  for (const Size size : {Size{0, 5}, Size{5, -1}, Size{kMaxSide + 1, 5}}) {
    EXPECT_TRUE(contains(message_of<GeometryError>([&] { plan_sizes(levels, size, 3); }),
                         "between 1 and 1073741824"));
  }
  EXPECT_EQ(plan_sizes(levels, {kMaxSide, 1}, 3).levels[0].out.h, kMaxSide / 2);
}

TEST(LevelGrammar, ReadsWhatIsGivenAndTakesTheRestFromTheDefaults) {
  const LevelSpec defaults{0, {4, 4}, {2, 2}, {1, 1}, {1, 1}};
  EXPECT_EQ(parse_level("64", defaults), (LevelSpec{64, {4, 4}, {2, 2}, {1, 1}, {1, 1}}));
  EXPECT_EQ(parse_level("8:p0", defaults), (LevelSpec{8, {4, 4}, {2, 2}, {0, 0}, {1, 1}}));
  EXPECT_EQ(parse_level("256:k3x5s2x1p1x2d1", defaults),
            (LevelSpec{256, {3, 5}, {2, 1}, {1, 2}, {1, 1}}));
  EXPECT_EQ(parse_levels("4,6:k5p2", {0, {3, 4}, {2, 3}, {1, 0}, {1, 2}}),
            (std::vector<LevelSpec>{{4, {3, 4}, {2, 3}, {1, 0}, {1, 2}},
                                    {6, {5, 5}, {2, 3}, {2, 2}, {1, 2}}}));
}

TEST(LevelGrammar, WrittenLevelsReadBackTheSame) {
  const LevelSpec level{7, {3, 5}, {2, 1}, {0, 2}, {1, 3}};
  EXPECT_EQ(parse_level(to_string(level), LevelSpec{}), level);
}

TEST(LevelGrammar, NamesWhatIsWrong) {
  for (const auto& wrong : std::vector<std::pair<const char*, const char*>>{
           {"", "level '': it must start with a number of channels"},
           {"32,,64", "level ''"},
           {"x", "level 'x': it must start with a number"},
           {"32:", "':' after the channels is not understood"},
           {"32:q3", "'q' is none of k, s, p, d"},
           {"32:k3k4", "'k' is given twice"},
           {"32:k3x", "'k' needs a number or HxW"},
           {"32:k-3", "'k' needs a number"},
           {"99999999999999999999", "it must start with a number"},
           {"0", "level 1: channels must be between 1 and"},
           {"8,8:s0", "level 2: stride must be between 1 and 1048576, but is 0x0"}}) {
    EXPECT_TRUE(
        contains(message_of<GeometryError>([&] { parse_levels(wrong.first); }), wrong.second))
        << wrong.first;
  }
}

}  // namespace
}  // namespace convae::test_geometry
