#include "convae/models/autoencoder.h"
#include "convae/models/options.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

namespace convae::test_options {
namespace {

using test::contains;
using test::message_of;
using test::small_network;

void expect_counted(const ModelOptions& options) {
  std::int64_t count = 0;
  for (const torch::Tensor& weight : Autoencoder(options)->parameters()) count += weight.numel();
  EXPECT_EQ(options.parameter_count(), count) << to_string(options.levels);
}

TEST(ParameterCount, IsTheNumberOfWeightsOfTheModel) {
  for (const char* levels : {"4", "4,6,8", "3:k3x5s2x1p1x2,8:k4s2p1,5:k1s1p0", "4:r1,6,8:r3",
                             "3:k3x5s2x1p1x2r1,8:k4s2p1,5:k1s1p0r2"}) {
    for (const std::int64_t channels : {1, 3, 5}) {
      for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
        ModelOptions options = small_network(levels, channels);
        options.norm = norm;
        expect_counted(options);
        options.detector = {5};
        options.shortcut = Shortcut::shuffle;
        expect_counted(options);
        ModelOptions narrow = options, dense = options;
        narrow.latent_channels = 7;
        dense.latent = 9;
        dense.size = {16, 11};
        dense.detector = {4, 6, 8};
        for (ModelOptions* bottleneck : {&narrow, &dense}) {
          expect_counted(*bottleneck);
          bottleneck->variational = true;
          expect_counted(*bottleneck);
        }
        dense.variational = false;
        dense.linear = Linear::pca;
        dense.output = Output::linear;
        expect_counted(dense);
      }
    }
  }
  expect_counted(small_network("32,64,128,256"));
}

TEST(ParameterCount, SaturatesInsteadOfOverflowing) {
  const std::int64_t most = std::int64_t{1} << 62;
  EXPECT_EQ(small_network("1048576:k1048576,1048576:k1048576").parameter_count(), most);
  ModelOptions options = small_network("1048576:k3s1p1");
  options.latent = 1 << 24;
  options.size = {1 << 30, 1 << 30};
  EXPECT_EQ(options.parameter_count(), most);
}

TEST(ModelOptionsTest, NameTheOptionItsValueAndWhatIsExpected) {
  const auto refusal = [](auto change) {
    ModelOptions options = small_network();
    change(options);
    return message_of<std::invalid_argument>([&] { Autoencoder net(options); });
  };
  EXPECT_EQ(refusal([](ModelOptions& o) { o.channels = 0; }),
            "channels must be at least 1, but is 0");
  EXPECT_EQ(refusal([](ModelOptions& o) { o.latent_channels = -1; }),
            "latent-channels must be between 0 and 1048576, but is -1");
  EXPECT_EQ(refusal([](ModelOptions& o) { o.latent = -1; }),
            "latent must be between 0 and 16777216, but is -1");
  EXPECT_EQ(refusal([](ModelOptions& o) {
              o.latent = 8;
              o.latent_channels = 4;
            }),
            "latent 8 and latent-channels 4 exclude each other: a bottleneck is either dense or a "
            "1x1 convolution");
  EXPECT_EQ(refusal([](ModelOptions& o) { o.latent = 8; }),
            "latent 8 (a dense bottleneck) works at one input size only; set size to N or HxW, or "
            "use latent-channels for a bottleneck that takes every size");
  EXPECT_TRUE(contains(refusal([](ModelOptions& o) {
                         o.levels = parse_levels("4:k5p0,6:k5p0");
                         o.latent = 8;
                         o.size = {12, 13};
                       }),
                       "input 12x13 cannot pass level 2"));
  EXPECT_EQ(refusal([](ModelOptions& o) {
              o.levels = {{4}, {0}};
            }),
            "level 2: channels must be between 1 and 1048576, but is 0");
}

}  // namespace
}  // namespace convae::test_options
