#include "convae/models/autoencoder.h"
#include "convae/models/tiling.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace convae::test_tiling {
namespace {

using test::small_network;
using test::uniform;

/// Numbers that differ from place to place, running statistics included.
Autoencoder random_net(const ModelOptions& options, std::uint64_t seed) {
  Autoencoder net(options);
  net->eval();
  const torch::NoGradGuard no_grad;
  for (auto& parameter : net->parameters()) {
    parameter.copy_((uniform(parameter.sizes(), ++seed) - 0.4) * 0.6);
  }
  for (const auto& buffer : net->named_buffers()) {
    if (buffer.value().is_floating_point()) {
      buffer.value().copy_(uniform(buffer.value().sizes(), ++seed) + 0.1);
    }
  }
  return net;
}

torch::Tensor result_of(Autoencoder& net, const torch::Tensor& x, TiledResult result) {
  if (result == TiledResult::latents) return encode_images(net, x);
  const torch::Tensor back = reconstruct_images(net, x);
  return result == TiledResult::detection ? net->detect(x, back) : back;
}

/// The largest difference between a picture's result and that of its tiles, as a share of the
/// largest value where that is above 1.
double difference(Autoencoder& net, const torch::Tensor& picture, TiledResult result, Size tile) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor expected = result_of(net, picture, result);
  const Size size{picture.size(2), picture.size(3)};
  const Tiling tiling(net->options(), result);
  double most = 0;
  for (std::int64_t y = 0; y < expected.size(2); y += tile.h) {
    for (std::int64_t x = 0; x < expected.size(3); x += tile.w) {
      const Region part{{y, std::min(y + tile.h, expected.size(2))},
                        {x, std::min(x + tile.w, expected.size(3))}};
      const Region window = tiling.window(part, size);
      EXPECT_EQ(window.rows.begin % tiling.grid().h, 0);
      EXPECT_EQ(window.columns.begin % tiling.grid().w, 0);
      EXPECT_TRUE(whole(size).rows.contains(window.rows));
      const torch::Tensor tile_result = result_of(net, cut(picture, window).contiguous(), result);
      const torch::Tensor found = cut(tile_result, tiling.place(part, window));
      EXPECT_EQ(found.sizes(), cut(expected, part).sizes());
      most = std::max(most, (found - cut(expected, part)).abs().max().item<double>());
    }
  }
  return most / std::max(1.0, expected.abs().max().item<double>());
}

TEST(Tiling, TilesOfAnyNetworkAreThoseOfTheWholePicture) {
  std::mt19937 random(7);
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  int tried = 0, with_cuts = 0;
  while (tried < 60) {
    ModelOptions options;
    options.channels = 1;
    options.levels.clear();
    for (std::int64_t level = pick(1, 3); level > 0; --level) {
      LevelSpec spec{pick(1, 3)};
      spec.kernel = {pick(1, 5), pick(1, 5)};
      spec.stride = {pick(1, 3), pick(1, 3)};
      spec.padding = {pick(0, 3), pick(0, 3)};
      spec.dilation = {pick(1, 2), pick(1, 2)};
      spec.residual_blocks = pick(0, 3) == 0 ? 1 : 0;
      options.levels.push_back(spec);
    }
    options.norm = pick(0, 1) == 0 ? Norm::batch : Norm::none;
    options.order = pick(0, 1) == 0 ? Order::conv_bn_act : Order::conv_act_bn;
    if (pick(0, 2) == 0) options.skip = Skip::add;
    if (pick(0, 2) == 0) options.shortcut = Shortcut::shuffle;
    if (options.has_latents() && pick(0, 2) == 0) options.latent_channels = 2;
    if (options.latent_channels == 0 && pick(0, 3) == 0) {
      options.residual = true;
      options.output = Output::linear;
    }
    const Size size{pick(20, 90), pick(20, 90)};
    try {
      options.validate();
    } catch (const OptionError&) {
      continue;  // a shortcut that does not fit its level
    }
    if (why_impossible(options.levels, size)) continue;
    SCOPED_TRACE(to_string(options.levels) + " at " + to_string(size));
    Autoencoder net = random_net(options, 100);
    const torch::Tensor picture = uniform({1, 1, size.h, size.w}, 3);
    const Size tile{pick(12, 40), pick(12, 40)};
    EXPECT_LT(difference(net, picture, TiledResult::reconstruction, tile), 1e-5);
    if (options.has_latents()) {
      const Size latents{pick(3, 10), pick(3, 10)};
      EXPECT_LT(difference(net, picture, TiledResult::latents, latents), 2e-5);
    }
    const Tiling tiling(options, TiledResult::reconstruction);
    const Region first = tiling.window({{0, tile.h}, {0, tile.w}}, size);
    with_cuts += first.rows.end < size.h && first.columns.end < size.w ? 1 : 0;
    ++tried;
  }
  EXPECT_GT(with_cuts, 20);  // else nothing was cut, and all is trivially equal
}

TEST(Tiling, TilesOfALinearPathAreThoseOfTheWholePicture) {
  for (const char* levels : {"3", "3:r1,4", "2:k5p2,3:s3x2,3", "3:k1p0,4:k3d2p2s2x1"}) {
    for (const Shortcut shortcut : {Shortcut::none, Shortcut::shuffle}) {
      ModelOptions options = small_network(levels, 1);
      options.latent_channels = 2;
      options.shortcut = shortcut;
      options.linear = Linear::pca;
      options.output = Output::linear;
      SCOPED_TRACE(levels);
      Autoencoder net = random_net(options, 23);
      const torch::Tensor picture = uniform({1, 1, 121, 94}, 5);
      EXPECT_LT(difference(net, picture, TiledResult::reconstruction, {17, 40}), 1e-5);
      EXPECT_LT(difference(net, picture, TiledResult::latents, {5, 4}), 2e-5);
      const Region window =
          Tiling(options, TiledResult::reconstruction).window({{300, 320}, {300, 320}}, {999, 999});
      EXPECT_GT(window.rows.begin, 0);
      EXPECT_LT(window.rows.end, 999);
    }
  }
}

TEST(Tiling, TilesOfADetectorAreThoseOfTheWholePicture) {
  for (const auto& widths : {std::vector<std::int64_t>{2}, {2, 3}, {2, 2, 3}}) {
    ModelOptions options = small_network("3,4", 1);
    options.detector = widths;
    Autoencoder net = random_net(options, 11);
    for (const Size size : {Size{121, 150}, Size{200, 97}}) {
      const torch::Tensor picture = uniform({1, 1, size.h, size.w}, 5);
      EXPECT_LT(difference(net, picture, TiledResult::detection, {40, 33}), 1e-5);
    }
    const Tiling tiling(options, TiledResult::detection);
    const Region window = tiling.window({{200, 220}, {200, 220}}, {1000, 1000});
    EXPECT_LT(window.rows.length(), 300);
    EXPECT_GT(window.rows.begin, 0);
  }
}

TEST(Tiling, WindowsAreAsSmallAsTheyCanBe) {
  // One level k3 s2 p1: an output pixel sees at most two pixels to either side.
  const Tiling tiling(small_network("4", 1), TiledResult::reconstruction);
  EXPECT_EQ(tiling.grid(), (Size{2, 2}));
  const Region window = tiling.window({{100, 120}, {0, 20}}, {400, 401});
  EXPECT_EQ(window, (Region{{98, 122}, {0, 22}}));
  EXPECT_EQ(tiling.window({{380, 400}, {390, 401}}, {400, 401}), (Region{{378, 400}, {388, 401}}));
}

TEST(Tiling, SaysWhyANetworkCannot) {
  ModelOptions options;
  options.channels = 3;
  EXPECT_FALSE(why_not_in_tiles(options));
  options.norm = Norm::group;
  EXPECT_EQ(why_not_in_tiles(options), "group normalisation goes by the mean of whole pictures");
  options.norm = Norm::batch;
  options.latent = 8;
  options.size = {32, 48};
  EXPECT_EQ(why_not_in_tiles(options), "a dense latent sees whole pictures of 32x48 only");
}

}  // namespace
}  // namespace convae::test_tiling
