#include "convae/inspection/channels.h"
#include "convae/tests/support.h"

#include <opencv2/imgproc.hpp>

namespace convae::test_channels {
namespace {

cv::Mat no_whitening() { return Whitening().kernel(); }

/// Of the channels at all scales, in the order of at_scale().
std::vector<std::string> channel_names() {
  const std::vector<std::string> kinds = {"lighter", "darker", "gradient-y", "gradient-x"};
  std::vector<std::string> names;
  for (const char* scale : {" at 1", " at 2", " at 4", " at 8"}) {
    for (const std::string& kind : kinds) names.push_back(kind + scale + " by its mean");
    names.push_back(std::string("whitened") + scale + " by its mean");
    for (const std::string& kind : kinds) names.push_back(kind + scale + " by brightness");
  }
  return names;
}

/// The channels of that name, over all scales.
std::vector<cv::Mat> maps_of(const Residual& residual, const std::string& part) {
  const ChannelMaps maps(residual, no_whitening());
  const std::vector<std::string> names = channel_names();
  std::vector<cv::Mat> found;
  for (std::size_t scale = 0; scale < ChannelMaps::kScales.size(); ++scale) {
    const std::vector<cv::Mat> here = maps.at_scale(scale);
    for (std::size_t i = 0; i < here.size(); ++i) {
      const std::string& name = names[scale * ChannelMaps::kChannelsPerScale + i];
      if (name.starts_with(part)) found.push_back(here[i]);
    }
  }
  return found;
}

double highest(const cv::Mat& map) {
  double value = 0;
  cv::minMaxLoc(map, nullptr, &value);
  return value;
}

Residual spot(std::int64_t height, std::int64_t width, double value) {
  torch::Tensor values = torch::zeros({1, height, width});
  values[0][height / 2][width / 2] = value;
  return {values, 0.5};
}

TEST(Channels, AreNineAtFourScales) {
  EXPECT_EQ(channel_names().size(), ChannelMaps::kScales.size() * ChannelMaps::kChannelsPerScale);
}

TEST(Channels, LighterAndDarkerAreApart) {
  for (const cv::Mat& map : maps_of(spot(21, 17, 0.5), "lighter")) EXPECT_GT(highest(map), 0);
  for (const cv::Mat& map : maps_of(spot(21, 17, 0.5), "darker")) EXPECT_EQ(highest(map), 0);
  for (const cv::Mat& map : maps_of(spot(21, 17, -0.5), "darker")) EXPECT_GT(highest(map), 0);
}

TEST(Channels, GradientsGoAlongTheirAxis) {
  // Stripes from top to bottom change from left to right only.
  const torch::Tensor stripes =
      torch::sin(torch::arange(32, torch::kFloat)).view({1, 1, 32}).expand({1, 20, 32});
  for (const cv::Mat& map : maps_of({stripes, 0.5}, "gradient-y")) EXPECT_LT(highest(map), 1e-3);
  EXPECT_GT(highest(maps_of({stripes, 0.5}, "gradient-x at 1")[0]), 0.1);
}

TEST(Channels, TheirOwnMeanTakesTheContrastOut) {
  const torch::Tensor noise = test::gaussian({1, 24, 30}, 5) * 0.1;
  const auto weak = maps_of({noise, 0.5}, "gradient-x"),
             strong = maps_of({noise * 3, 0.5}, "gradient-x");
  for (std::size_t i = 0; i < weak.size(); ++i) {
    const bool by_mean = i % 2 == 0;  // then by brightness
    EXPECT_NEAR(highest(strong[i]) / highest(weak[i]), by_mean ? 1 : 3, 1e-3) << i;
    if (by_mean) {
      EXPECT_NEAR(cv::mean(weak[i])[0], 1, 1e-4);
    }
  }
}

TEST(Channels, BrightnessTakesTheExposureOut) {
  const torch::Tensor noise = test::gaussian({1, 24, 30}, 5) * 0.1;
  const auto dim = maps_of({noise, 0.25}, "lighter"), bright = maps_of({noise * 2, 0.5}, "lighter");
  for (std::size_t i = 0; i < dim.size(); ++i) {
    EXPECT_NEAR(highest(dim[i]), highest(bright[i]), 1e-3 * highest(dim[i]));
  }
}

TEST(Channels, TheStrongestColourCounts) {
  Residual one = spot(21, 17, 0.5);
  Residual three = {torch::cat({one.values * 0.2, one.values, one.values * -0.1}), 0.5};
  const auto grey = maps_of(one, "lighter"), colour = maps_of(three, "lighter");
  for (std::size_t i = 0; i < grey.size(); ++i) {
    EXPECT_NEAR(highest(grey[i]), highest(colour[i]), 1e-3 * highest(grey[i]));
  }
}

TEST(Channels, TakeEverySizeAndNoErrorAtAll) {
  for (const auto& [height, width] : {std::pair{1, 1}, {1, 40}, {3, 2}, {33, 17}}) {
    for (const torch::Tensor& values :
         {torch::zeros({3, height, width}), test::gaussian({3, height, width}, 1)}) {
      const ChannelMaps maps({values, 0}, no_whitening());
      for (std::size_t scale = 0; scale < ChannelMaps::kScales.size(); ++scale) {
        for (const cv::Mat& map : maps.at_scale(scale)) {
          ASSERT_EQ(map.rows, height);
          ASSERT_EQ(map.cols, width);
          EXPECT_TRUE(cv::checkRange(map));
        }
      }
    }
  }
}

TEST(Whitening, MakesNoiseWhite) {
  // Noise that is smooth along x; whitened, neighbours say nothing about each other.
  torch::Tensor noise = test::gaussian({1, 160, 161}, 3);
  noise = (noise.narrow(2, 0, 160) + noise.narrow(2, 1, 160)) / 2;
  const auto neighbours = [](const torch::Tensor& image) {
    const torch::Tensor left = image.narrow(1, 20, 119), right = image.narrow(1, 21, 119);
    return ((left * right).mean() / image.square().mean()).item<double>();
  };
  Whitening whitening;
  whitening.add(noise);
  cv::Mat white;
  const cv::Mat plane(160, 160, CV_32FC1, noise.data_ptr());
  cv::filter2D(plane, white, CV_32F, whitening.kernel());
  const torch::Tensor result = torch::from_blob(white.data, {160, 160}, torch::kFloat);
  EXPECT_GT(neighbours(noise[0]), 0.4);
  EXPECT_LT(std::abs(neighbours(result)), 0.1);
}

TEST(Whitening, OfNothingChangesNothing) {
  const cv::Mat kernel = no_whitening();
  EXPECT_NEAR(kernel.at<float>(7, 7), 1, 1e-6);
  EXPECT_NEAR(cv::norm(kernel), 1, 1e-6);
}

TEST(Whitening, TakesImagesBelowAPatch) {
  Whitening whitening;
  whitening.add(test::gaussian({3, 5, 4}, 1));
  whitening.add(torch::zeros({3, 1, 1}));
  EXPECT_TRUE(cv::checkRange(whitening.kernel()));
}

}  // namespace
}  // namespace convae::test_channels
