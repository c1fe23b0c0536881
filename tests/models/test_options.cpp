#include "convae/models/autoencoder.h"
#include "convae/models/options.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

namespace convae::test_options {
namespace {

using test::contains;
using test::message_of;
using test::small_network;

std::int64_t real_parameter_count(const ModelOptions& options) {
  std::int64_t count = 0;
  for (const torch::Tensor& parameter : Autoencoder(options)->parameters()) {
    count += parameter.numel();
  }
  return count;
}

TEST(ParameterCount, IsTheNumberOfWeightsOfTheModel) {
  for (const char* levels : {"4", "4,6,8", "3:k3x5s2x1p1x2,8:k4s2p1,5:k1s1p0"}) {
    for (const std::int64_t channels : {1, 3, 5}) {
      for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
        ModelOptions options = small_network(levels, channels);
        options.norm = norm;
        EXPECT_EQ(options.parameter_count(), real_parameter_count(options)) << levels;
        options.latent_channels = 7;
        EXPECT_EQ(options.parameter_count(), real_parameter_count(options)) << levels;
        options.latent_channels = 0;
        options.latent = 9;
        options.size = {16, 11};
        EXPECT_EQ(options.parameter_count(), real_parameter_count(options)) << levels;
      }
    }
  }
  EXPECT_EQ(small_network("32,64,128,256").parameter_count(),
            real_parameter_count(small_network("32,64,128,256")));
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

TEST(ModelOptionsTest, LevelsTakeWhatTheyDoNotNameFromTheDefaults) {
  const auto levels = parse_levels("4,6:k5p2", {0, {3, 4}, {2, 3}, {1, 0}, {1, 2}});
  ASSERT_EQ(levels.size(), 2U);
  EXPECT_EQ(levels[0], (LevelSpec{4, {3, 4}, {2, 3}, {1, 0}, {1, 2}}));
  EXPECT_EQ(levels[1], (LevelSpec{6, {5, 5}, {2, 3}, {2, 2}, {1, 2}}));
}

}  // namespace
}  // namespace convae::test_options
