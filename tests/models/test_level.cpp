/// Whole networks against plain LibTorch, with shortcuts, residual blocks and skip connections too.
#include "convae/models/autoencoder.h"
#include "convae/models/kernels/fused_shortcut.h"
#include "convae/models/shortcut.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace convae::test_level {
namespace {

namespace F = torch::nn::functional;
using test::contains;
using test::difference;
using test::message_of;
using test::small_network;
using test::uniform;

Size size_of(const torch::Tensor& x) { return {x.size(2), x.size(3)}; }

/// (N, A, H, W) → (N, B, H, W): what each channel is the mean of, one after the other.
torch::Tensor mean_of_channels(const torch::Tensor& x, std::int64_t to) {
  const std::int64_t from = x.size(1);
  std::vector<torch::Tensor> made;
  for (std::int64_t j = 0; j < to; ++j) {
    const std::int64_t begin = j * from / to, end = ((j + 1) * from + to - 1) / to;
    made.push_back(x.slice(1, begin, end).mean(1, /*keepdim=*/true));
  }
  return torch::cat(made, 1);
}

/// Its pixels at these rows and columns, the last ones again where there are none.
torch::Tensor pixels(const torch::Tensor& x, std::int64_t first_row, std::int64_t row_step,
                     std::int64_t rows, std::int64_t first_column, std::int64_t column_step,
                     std::int64_t columns) {
  const auto indices = [](std::int64_t first, std::int64_t step, std::int64_t count,
                          std::int64_t length) {
    return (torch::arange(count) * step + first).clamp_max(length - 1);
  };
  return x.index_select(2, indices(first_row, row_step, rows, x.size(2)))
      .index_select(3, indices(first_column, column_step, columns, x.size(3)));
}

torch::Tensor plain_down(const torch::Tensor& x, Size stride, std::int64_t channels, Size out) {
  std::vector<torch::Tensor> planes;
  for (std::int64_t c = 0; c < x.size(1); ++c) {
    for (std::int64_t i = 0; i < stride.h; ++i) {
      for (std::int64_t j = 0; j < stride.w; ++j) {
        planes.push_back(pixels(x.narrow(1, c, 1), i, stride.h, out.h, j, stride.w, out.w));
      }
    }
  }
  return mean_of_channels(torch::cat(planes, 1), channels);
}

torch::Tensor plain_up(const torch::Tensor& x, Size stride, std::int64_t channels, Size out) {
  const torch::Tensor wide = mean_of_channels(x, channels * stride.h * stride.w);
  const Size whole{x.size(2) * stride.h, x.size(3) * stride.w};
  torch::Tensor y = torch::zeros({x.size(0), channels, whole.h, whole.w});
  for (std::int64_t i = 0; i < stride.h; ++i) {
    for (std::int64_t j = 0; j < stride.w; ++j) {
      std::vector<torch::Tensor> planes;
      for (std::int64_t c = 0; c < channels; ++c) {
        planes.push_back(wide.narrow(1, (c * stride.h + i) * stride.w + j, 1));
      }
      y.slice(2, i, whole.h, stride.h).slice(3, j, whole.w, stride.w).copy_(torch::cat(planes, 1));
    }
  }
  return pixels(y, 0, 1, out.h, 0, 1, out.w);
}

TEST(ShortcutTest, EqualsThePlainWayForEverySizeStrideAndChannels) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> kChannels = {
      {3, 4}, {4, 8}, {8, 4}, {2, 8}, {5, 3}, {6, 6}, {1, 7}, {9, 2}};
  for (const Size stride : {Size{1, 1}, Size{2, 2}, Size{3, 3}, Size{2, 1}, Size{1, 4}}) {
    for (const auto& [outer, inner] : kChannels) {
      for (std::int64_t n = 1; n <= 7; ++n) {
        const Size in{n, 8 - n};
        for (const bool up : {false, true}) {
          const Size small{(in.h + stride.h - 1) / stride.h, (in.w + stride.w - 1) / stride.w};
          std::vector<Size> outs = {small};  // rounded up, and down where that leaves something
          if (in.h >= stride.h && in.w >= stride.w) {
            outs.push_back({in.h / stride.h, in.w / stride.w});
          }
          for (const Size out : outs) {
            SCOPED_TRACE(to_string(in) + " stride " + to_string(stride) + " channels " +
                         std::to_string(outer) + "," + std::to_string(inner));
            if (up) {
              const torch::Tensor x = uniform({2, inner, out.h, out.w}, 1);
              const torch::Tensor y = shuffled_up(x, stride, outer, in);
              ASSERT_LE(difference(y, plain_up(x, stride, outer, in)), 1e-6);
            } else {
              const torch::Tensor x = uniform({2, outer, in.h, in.w}, 1);
              const torch::Tensor y = shuffled_down(x, stride, inner, out);
              ASSERT_LE(difference(y, plain_down(x, stride, inner, out)), 1e-6);
            }
          }
        }
      }
    }
  }
}

/// Values and gradients of the pass that does all at once, of float and bfloat16.
TEST(FusedShortcut, EqualsThePlainWayWithGradients) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> kChannels = {
      {3, 32}, {32, 64}, {20, 20}, {17, 68}, {64, 32}, {5, 3}, {1, 7}, {33, 2}};
  for (const Size stride : {Size{2, 2}, Size{3, 3}, Size{2, 1}, Size{1, 4}}) {
    for (const auto& [outer, inner] : kChannels) {
      for (const Size large : {Size{8, 12}, Size{7, 13}, Size{1, 1}, Size{9, 2}}) {
        for (const bool down : {true, false}) {
          SCOPED_TRACE(to_string(large) + " stride " + to_string(stride) + " channels " +
                       std::to_string(outer) + "," + std::to_string(inner));
          const Size small{(large.h + stride.h - 1) / stride.h,
                           (large.w + stride.w - 1) / stride.w};
          const auto map = [&](bool of_large, std::uint64_t seed) {
            const Size size = of_large ? large : small;
            return test::gaussian({2, of_large ? outer : inner, size.h, size.w}, seed)
                .contiguous(torch::MemoryFormat::ChannelsLast);
          };
          const torch::Tensor x = map(down, 1).requires_grad_(), y = map(!down, 2).requires_grad_();
          const torch::Tensor a = x.detach().clone().requires_grad_();
          const torch::Tensor direction = map(!down, 3), of_layers = map(down, 4);
          ASSERT_TRUE(can_fuse_shortcut(x, y.sizes().vec(), stride, down));
          const ForkedInput input(x, y.sizes().vec(), stride, down);
          torch::Tensor sum = y.clone();
          fused_shortcut_(sum, input, stride, down);
          const torch::Tensor plain =
              down ? plain_down(a, stride, inner, small) : plain_up(a, stride, outer, large);
          ASSERT_LE(difference(sum, y + plain), 1e-5);
          ASSERT_TRUE(sum.is_contiguous(torch::MemoryFormat::ChannelsLast));
          ((sum * direction).sum() + (input.maps * of_layers).sum()).backward();
          ((plain * direction).sum() + (a * of_layers).sum()).backward();
          ASSERT_TRUE(torch::equal(y.grad(), direction));
          ASSERT_LE(difference(x.grad(), a.grad()), 5e-5);
          ASSERT_TRUE(torch::equal(of_layers, map(down, 4)));  // which is not ours to overwrite

          const torch::NoGradGuard no_grad;
          torch::Tensor rounded = y.detach().to(torch::kBFloat16);
          const void* const place = rounded.data_ptr();
          fused_shortcut_(rounded, {x.detach().to(torch::kBFloat16), y.sizes().vec(), stride, down},
                          stride, down);
          ASSERT_EQ(rounded.data_ptr(), place);
          ASSERT_LE(difference(rounded.to(torch::kFloat), y + plain), 0.06);
        }
      }
    }
  }
  const torch::Tensor one = uniform({1, 2, 1, 1}, 2);
  EXPECT_FALSE(can_fuse_shortcut(one, {1, 2, 3, 3}, {2, 2}, /*down=*/false));  // edge repeated
}

/// As in https://github.com/mit-han-lab/efficientvit (dc_ae), where numbers divide.
TEST(ShortcutTest, IsThatOfDeepCompressionAutoencoders) {
  const torch::Tensor x = uniform({2, 6, 8, 10}, 1);
  const torch::Tensor down = torch::pixel_unshuffle(x, 2).view({2, 8, 3, 4, 5}).mean(/*dim=*/2);
  EXPECT_LE(difference(shuffled_down(x, {2, 2}, 8, {4, 5}), down), 1e-6);
  const torch::Tensor up = torch::pixel_shuffle(x.repeat_interleave(2, /*dim=*/1), 2);
  EXPECT_LE(difference(shuffled_up(x, {2, 2}, 3, {16, 20}), up), 1e-6);
}

TEST(ShortcutTest, FitsWhereTheConvolutionDividesByItsStride) {
  for (std::int64_t k = 1; k <= 7; ++k) {
    for (std::int64_t s = 1; s <= 4; ++s) {
      for (std::int64_t p = 0; p <= 4; ++p) {
        for (std::int64_t d = 1; d <= 3; ++d) {
          const Axis axis{k, s, p, d};
          bool divides = true;
          for (std::int64_t n = 1; n <= 40; ++n) {
            const auto m = axis.conv_length(n);
            divides = divides && (!m || *m == n / s || *m == (n + s - 1) / s);
          }
          EXPECT_EQ(axis.divides_by_stride(), divides) << k << s << p << d;
        }
      }
    }
  }
}

/// The whole network from LibTorch's functions, with the weights of `net`.
class Plain {
public:
  Plain(Autoencoder& net, bool training) : options_(net->options()), training_(training) {
    for (const auto& item : net->named_parameters()) {
      weights_[item.key()] =
          item.value().detach().clone(torch::MemoryFormat::Contiguous).requires_grad_();
    }
    for (const auto& item : net->named_buffers()) weights_[item.key()] = item.value().clone();
  }

  torch::Tensor forward(const torch::Tensor& image) const {
    std::vector<torch::Tensor> maps = {image};
    for (std::size_t i = 0; i < levels().size(); ++i) {
      const std::string name = "encoder." + std::to_string(i);
      const LevelSpec& level = levels()[i];
      const torch::Tensor x = maps.back();
      torch::Tensor y =
          tail(name, torch::conv2d(x, at(name + ".conv.weight"), at(name + ".conv.bias"),
                                   per_axis(level.stride), per_axis(level.padding),
                                   per_axis(level.dilation)));
      if (has_shortcut()) y = y + plain_down(x, level.stride, level.channels, size_of(y));
      maps.push_back(residual_blocks(name, level, y));
    }
    torch::Tensor x = bottleneck(maps.back());
    for (std::size_t i = levels().size(); i-- > 0;) {
      const std::string name = "decoder." + std::to_string(levels().size() - 1 - i);
      const LevelSpec& level = levels()[i];
      x = residual_blocks(name, level, x);
      const auto convolved = [&](Size output_padding) {
        return torch::conv_transpose2d(x, at(name + ".conv.weight"), at(name + ".conv.bias"),
                                       per_axis(level.stride), per_axis(level.padding),
                                       per_axis(output_padding), 1, per_axis(level.dilation));
      };
      const Size without = size_of(convolved({0, 0})), wanted = size_of(maps[i]);
      torch::Tensor y = convolved({wanted.h - without.h, wanted.w - without.w});
      if (i > 0) y = tail(name, y);
      if (has_shortcut()) y = y + plain_up(x, level.stride, y.size(1), size_of(y));
      x = options_.skip == Skip::add && i > 0 ? y + maps[i] : y;
    }
    if (options_.output == Output::sigmoid) x = torch::sigmoid(x);
    if (options_.output == Output::tanh) x = torch::tanh(x);
    if (!options_.residual) return x;
    return training_ ? image - x : (image - x).clamp(0, 1);
  }

  const torch::Tensor& at(const std::string& name) const { return weights_.at(name); }

private:
  const std::vector<LevelSpec>& levels() const { return options_.levels; }
  bool has_shortcut() const { return options_.shortcut == Shortcut::shuffle; }

  torch::Tensor bottleneck(const torch::Tensor& x) const {
    if (options_.bottleneck_numbers() == 0) return x;
    const auto layer = [&](const std::string& name, const torch::Tensor& input) {
      const torch::Tensor &weight = at(name + ".weight"), &bias = at(name + ".bias");
      return options_.latent > 0 ? torch::linear(input, weight, bias)
                                 : torch::conv2d(input, weight, bias);
    };
    const torch::Tensor code = layer("encoder.latent", options_.latent > 0 ? x.flatten(1) : x);
    const std::string back = options_.latent > 0 ? "linear" : "conv";
    return tail("decoder.latent", layer("decoder.latent." + back, code).view(x.sizes()));
  }

  torch::Tensor activated(const torch::Tensor& x) const {
    switch (options_.activation) {
      case Activation::silu: return torch::silu(x);
      case Activation::relu: return torch::relu(x);
      case Activation::leaky_relu: return torch::leaky_relu(x);
      case Activation::gelu: return torch::gelu(x);
    }
    return {};
  }

  torch::Tensor normalised(const std::string& name, const torch::Tensor& x) const {
    if (options_.norm == Norm::none) return x;
    const torch::Tensor weight = at(name + ".norm.weight"), bias = at(name + ".norm.bias");
    if (options_.norm == Norm::group) {
      return torch::group_norm(x.contiguous(), group_count(x.size(1)), weight, bias);
    }
    return torch::batch_norm(
        x, weight, bias, training_ ? torch::Tensor() : at(name + ".norm.running_mean"),
        training_ ? torch::Tensor() : at(name + ".norm.running_var"), training_, 0.1, 1e-5, false);
  }

  torch::Tensor tail(const std::string& name, const torch::Tensor& x) const {
    return options_.order == Order::conv_bn_act ? activated(normalised(name, x))
                                                : normalised(name, activated(x));
  }

  torch::Tensor residual_blocks(const std::string& level, const LevelSpec& spec,
                                torch::Tensor x) const {
    for (std::int64_t i = 0; i < spec.residual_blocks; ++i) {
      const std::string name = level + ".residual" + std::to_string(i);
      const auto convolved = [&](const std::string& which, const torch::Tensor& input) {
        return torch::conv2d(input, at(which + ".conv.weight"), at(which + ".conv.bias"), 1, 1);
      };
      const torch::Tensor y = tail(name + ".first", convolved(name + ".first", x));
      x = x + convolved(name + ".second", y);
    }
    return x;
  }

  ModelOptions options_;
  bool training_;
  std::map<std::string, torch::Tensor> weights_;
};

/// With weights and statistics that are not what they start as.
Autoencoder network(const ModelOptions& options) {
  torch::manual_seed(5);
  Autoencoder net(options);
  const torch::NoGradGuard no_grad;
  std::uint64_t seed = 1;
  for (auto& item : net->named_parameters()) {
    item.value().add_(0.1 * test::gaussian(item.value().sizes(), seed++));
  }
  for (auto& item : net->named_buffers()) {
    if (contains(item.key(), "running"))
      item.value().add_(0.2 * uniform(item.value().sizes(), seed++));
  }
  return net;
}

void expect_plain(const ModelOptions& options, Size size) {
  SCOPED_TRACE(to_string(options.levels) + " shortcut " + to_string(options.shortcut) + " skip " +
               to_string(options.skip) + " residual " + std::to_string(options.residual) +
               " norm " + to_string(options.norm) + " " + to_string(options.order) + " " +
               to_string(options.activation) + " " + to_string(options.output) + " latent " +
               std::to_string(options.bottleneck_numbers()) + " at " + to_string(size));
  Autoencoder net = network(options);
  const Plain plain(net, /*training=*/true), evaluating(net, /*training=*/false);
  const torch::Tensor a = uniform({3, options.channels, size.h, size.w}, 1).requires_grad_();
  const torch::Tensor b = a.detach().clone().requires_grad_();
  const torch::Tensor direction = test::gaussian(a.sizes(), 2);

  net->eval();
  {
    const torch::NoGradGuard no_grad;  // the fused passes of inference
    const torch::Tensor y = net->forward(a.detach());
    EXPECT_LE(difference(y, evaluating.forward(b)), 1e-5);
    EXPECT_TRUE(y.is_contiguous(torch::MemoryFormat::ChannelsLast));
  }
  net->train();
  const torch::Tensor y = net->forward(a), z = plain.forward(b);
  EXPECT_LE(difference(y, z), 1e-5);
  (y * direction).sum().backward();
  (z * direction).sum().backward();
  EXPECT_LE(difference(a.grad(), b.grad()),
            1e-4 * std::max(1.0, b.grad().abs().max().item<double>()));
  for (const auto& item : net->named_parameters()) {
    const torch::Tensor expected = plain.at(item.key()).grad();
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    // What a bias before a batch normalisation gets are rounding errors.
    EXPECT_LE(difference(item.value().grad(), expected),
              5e-4 * std::max(1.0, expected.abs().max().item<double>()))
        << item.key();
    if (item.key().ends_with("conv.weight")) {
      EXPECT_GT(expected.abs().max().item<double>(), 0) << item.key();
    }
  }
}

TEST(AutoencoderTest, EqualsPlainLibTorchWithTheRightOutputPadding) {
  for (const Size size : {Size{24, 25}, Size{25, 24}, Size{13, 18}, Size{8, 8}}) {
    expect_plain(small_network(), size);
  }
  for (const char* levels : {"4:k3s2p2d2,6:k3s3p1d2", "4:k3x5s2x3p1x2d1x2,6:k4x3s2x1p1x1"}) {
    for (const Size size : {Size{23, 26}, Size{24, 27}}) expect_plain(small_network(levels), size);
  }
}

TEST(AutoencoderTest, EqualsPlainLibTorchForEveryNormActivationOrderOutputAndBottleneck) {
  constexpr Size kSize{12, 15};  // needs output_padding 1 and 2 at the first level
  ModelOptions options = small_network("4:k3x5s2x3p1x2d2x1,8");
  for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
    for (const Order order : {Order::conv_bn_act, Order::conv_act_bn}) {
      for (const auto activation :
           {Activation::silu, Activation::relu, Activation::leaky_relu, Activation::gelu}) {
        for (const Output output : {Output::sigmoid, Output::tanh, Output::linear}) {
          options.norm = norm;
          options.order = order;
          options.activation = activation;
          options.output = output;
          ModelOptions narrow = options, dense = options;
          narrow.latent_channels = 2;
          dense.latent = 5;
          dense.size = kSize;
          for (const ModelOptions& some : {options, narrow, dense}) expect_plain(some, kSize);
        }
      }
    }
  }
}

TEST(LevelTest, EveryCombinationEqualsPlainLibTorch) {
  for (const char* levels : {"4,6,8", "4,6:r1,8:r2"}) {
    for (const Shortcut shortcut : {Shortcut::none, Shortcut::shuffle}) {
      for (const Skip skip : {Skip::none, Skip::add}) {
        for (const bool residual : {false, true}) {
          for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
            for (const Order order : {Order::conv_bn_act, Order::conv_act_bn}) {
              ModelOptions options = small_network(levels);
              options.shortcut = shortcut;
              options.skip = skip;
              options.residual = residual;
              options.norm = norm;
              options.order = order;
              if (residual) options.output = Output::linear;
              if (norm == Norm::group) options.activation = Activation::relu;
              expect_plain(options, {13, 16});
            }
          }
        }
      }
    }
  }
}

TEST(LevelTest, EverySmallSizeEqualsPlainLibTorch) {
  ModelOptions options = small_network("4,6:r1", 1);
  options.shortcut = Shortcut::shuffle;
  options.skip = Skip::add;
  options.residual = true;
  options.output = Output::linear;
  for (std::int64_t h = 1; h <= 6; ++h) {
    for (std::int64_t w = 1; w <= 6; ++w) expect_plain(options, {h, w});
  }
}

TEST(LevelTest, LevelsOfEveryKindEqualPlainLibTorch) {
  for (const char* levels :
       {"4:s1,4:s1,4:s1", "4:k4,6:k4", "4:k3s3p0,5:k2s2p0", "6:k3x5s2x1p1x2,4:k5x3s1x3p2x0",
        "4:k3p2d2,8:k5p2", "5:k1s2p0r1,7:k4s4p0"}) {
    ModelOptions options = small_network(levels);
    options.shortcut = Shortcut::shuffle;
    options.skip = Skip::add;
    const Size smallest = smallest_input(options.levels);
    for (const Size more : {Size{7, 8}, Size{8, 11}, Size{9, 9}, Size{10, 12}}) {
      expect_plain(options, {smallest.h + more.h, smallest.w + more.w});
    }
  }
}

TEST(LevelTest, BatchesOfSeveralSizesEqualOneByOne) {
  ModelOptions bottleneck = small_network(), restoring = small_network("4,6:r1");
  bottleneck.latent_channels = 2;
  restoring.shortcut = Shortcut::shuffle;
  restoring.skip = Skip::add;
  restoring.residual = true;
  restoring.output = Output::linear;
  for (const ModelOptions& options : {small_network(), bottleneck, restoring}) {
    Autoencoder net = network(options);
    const Maps batches = {uniform({2, 3, 24, 25}, 1), uniform({1, 3, 1, 1}, 2),
                          uniform({3, 3, 7, 13}, 3)};
    const Maps trained = net->forward(batches);
    net->eval();
    const Maps outputs = net->forward(batches);
    for (std::size_t i = 0; i < batches.size(); ++i) {
      EXPECT_EQ(trained[i].sizes(), batches[i].sizes());
      EXPECT_LE(difference(outputs[i], net->forward(batches[i])), 1e-6) << "batch " << i;
    }
    net->train();
    const torch::Tensor whole = net->forward(torch::cat({batches[2], batches[2]}));
    EXPECT_LE(difference(torch::cat(net->forward(Maps{batches[2], batches[2]})), whole), 1e-5);
  }
}

TEST(LevelTest, InferenceLeavesItsInputAlone) {
  ModelOptions options = small_network("3:s1r1");
  options.shortcut = Shortcut::shuffle;
  options.norm = Norm::none;
  Autoencoder net = network(options);
  net->eval();
  const torch::NoGradGuard no_grad;
  const torch::Tensor x = uniform({1, 3, 4, 5}, 1).contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor before = x.clone();
  const torch::Tensor first = net->forward(x);
  EXPECT_TRUE(torch::equal(x, before));
  EXPECT_TRUE(torch::equal(net->forward(x), first));
}

TEST(LevelTest, NamesOfResidualBlocks) {
  ModelOptions options = small_network("4,6:r2");
  options.norm = Norm::none;
  const auto names = Autoencoder(options)->named_parameters().keys();
  EXPECT_EQ(names.size(), 8U + 2 * 2 * 4);
  for (const char* name :
       {"encoder.1.residual0.first.conv.weight", "encoder.1.residual1.second.conv.bias",
        "decoder.0.residual1.first.conv.bias"}) {
    EXPECT_TRUE(std::find(names.begin(), names.end(), name) != names.end()) << name;
  }
}

TEST(LevelTest, TrainingMemoryIsThatOfTheMapsThatAreKept) {
  ModelOptions options = small_network("4,8", 1);
  const std::int64_t without = options.training_bytes_per_image({16, 16});
  options.levels = parse_levels("4,8:r2");
  // Two blocks on both ways, each with three maps of 8×4×4: both of a block, and the sum.
  EXPECT_EQ(options.training_bytes_per_image({16, 16}), without + 2 * 2 * 3 * 8 * 4 * 4 * 4);
  const std::int64_t narrow = options.inference_bytes_per_image({16, 16});
  options.skip = Skip::add;
  EXPECT_EQ(options.inference_bytes_per_image({16, 16}), narrow + 4 * (4 * 8 * 8 + 8 * 4 * 4));
}

TEST(LevelTest, GrammarHasResidualBlocks) {
  const auto levels = parse_levels("4,6:r2,8:k5p2r0", LevelSpec{.residual_blocks = 1});
  EXPECT_EQ(levels[0].residual_blocks, 1);
  EXPECT_EQ(levels[1].residual_blocks, 2);
  EXPECT_EQ(levels[2].residual_blocks, 0);
  EXPECT_EQ(to_string(levels[1]), "6:k3x3s2x2p1x1d1x1r2");
  EXPECT_EQ(to_string(levels[2]), "8:k5x5s2x2p2x2d1x1");
  EXPECT_EQ(parse_levels(to_string(levels)), levels);
  EXPECT_EQ(settings_text(levels[1]), "k3 s2 p1 r2");
  const auto refusal = [](const char* text) {
    return message_of<GeometryError>([&] { parse_levels(text); });
  };
  EXPECT_TRUE(contains(refusal("6:r"), "'r' needs a number after it")) << refusal("6:r");
  EXPECT_TRUE(contains(refusal("6:r1r2"), "'r' is given twice"));
  EXPECT_EQ(refusal("6:r65"), "level 1: residual blocks must be between 0 and 64, but is 65");
}

TEST(LevelTest, RefusesWhatDoesNotFit) {
  const auto refusal = [](const char* levels, auto change) {
    ModelOptions options = small_network(levels);
    change(options);
    return message_of<OptionError>([&] { options.validate(); });
  };
  const auto shuffle = [](ModelOptions& o) { o.shortcut = Shortcut::shuffle; };
  EXPECT_EQ(refusal("4,6:k5", shuffle),
            "shortcut shuffle needs levels that divide the size by their stride, rounded up or "
            "down, which level 2 (k5 s2 p1) does not; use padding 2x2 there, or shortcut none");
  EXPECT_TRUE(contains(refusal("4:k4s1", shuffle), "use an odd kernel there"));
  EXPECT_TRUE(contains(refusal("4:k600s600p0,6:k2000s2000p0", shuffle),
                       "shortcut shuffle makes 1080000 channels of 3 at level 1"));
  EXPECT_EQ(refusal("4",
                    [](ModelOptions& o) {
                      o.skip = Skip::add;
                      o.latent_channels = 2;
                    }),
            "latent-channels is not for a model with skip add: its decoder needs the image that it "
            "restores beside the latent");
  EXPECT_TRUE(contains(refusal("4",
                               [](ModelOptions& o) {
                                 o.residual = true;
                                 o.output = Output::linear;
                                 o.latent = 2;
                                 o.size = {8, 8};
                               }),
                       "latent is not for a model with residual"));
  EXPECT_EQ(refusal("4", [](ModelOptions& o) { o.residual = true; }),
            "residual: the network predicts a difference, which can be negative; "
            "output-activation must be linear, but is sigmoid");
}

TEST(LevelTest, ADecoderWithSkipsWantsWhatTheEncoderHad) {
  ModelOptions options = small_network("4,6");
  options.skip = Skip::add;
  Autoencoder net(options);
  EXPECT_TRUE(contains(message_of<c10::Error>([&] {
                         net->decoder->forward(torch::zeros({1, 6, 2, 2}), {8, 8});
                       }),
                       "the decoder needs 1 levels' maps of the encoder, but got 0"));
}

}  // namespace
}  // namespace convae::test_level
