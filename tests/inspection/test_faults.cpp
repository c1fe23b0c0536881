#include "convae/inspection/faults.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>
#include <opencv2/core.hpp>

namespace convae::test_faults {
namespace {

constexpr int kFirstFrameFault = 1 + kFaultKinds - kFrameFaults;

int kind_of(FrameFault fault) { return kFirstFrameFault + static_cast<int>(fault); }

/// (C, H, W) in [0.2, 0.8], with waves and grain.
torch::Tensor picture(std::int64_t channels, std::int64_t height, std::int64_t width) {
  const torch::Tensor wave = test::wave(channels, height, width, 1).to(torch::kFloat) / 255;
  return 0.25 + 0.4 * wave + 0.1 * test::uniform({channels, height, width}, 1);
}

torch::Tensor with_fault(const torch::Tensor& image, int kind, std::uint64_t seed) {
  torch::Tensor pixels = image.permute({1, 2, 0}).clone(torch::MemoryFormat::Contiguous);
  cv::Mat on(static_cast<int>(pixels.size(0)), static_cast<int>(pixels.size(1)),
             CV_32FC(static_cast<int>(pixels.size(2))), pixels.data_ptr());
  CounterRandom random(seed, 0, 0, Purpose::corruption);
  draw_fault(on, kind, random, {});
  EXPECT_EQ(static_cast<void*>(on.data), pixels.data_ptr()) << "drawn in place";
  return pixels.permute({2, 0, 1});
}

class EveryFault : public testing::TestWithParam<int> {};

TEST_P(EveryFault, ChangesThePictureAndStaysInRange) {
  for (const std::int64_t channels : {1, 3}) {
    for (const Size size : {Size{8, 8}, Size{9, 31}, Size{31, 9}, Size{64, 50}}) {
      const torch::Tensor image = picture(channels, size.h, size.w);
      int changed = 0;
      for (std::uint64_t seed = 0; seed < 10; ++seed) {
        const torch::Tensor result = with_fault(image, GetParam(), seed);
        ASSERT_EQ(result.sizes(), image.sizes());
        EXPECT_TRUE(result.isfinite().all().item<bool>());
        EXPECT_GE(result.min().item<float>(), 0) << to_string(size) << " " << seed;
        EXPECT_LE(result.max().item<float>(), 1) << to_string(size) << " " << seed;
        changed += test::difference(result, image) > 0.01 ? 1 : 0;
      }
      EXPECT_GE(changed, 9) << to_string(size) << ", " << channels << " channels";
    }
  }
}

TEST_P(EveryFault, FollowsFromTheRandomNumbers) {
  const torch::Tensor image = picture(3, 40, 33);
  const torch::Tensor once = with_fault(image, GetParam(), 5);
  EXPECT_TRUE(torch::equal(once, with_fault(image, GetParam(), 5)));
  EXPECT_FALSE(torch::equal(once, with_fault(image, GetParam(), 6)));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryFault, testing::Range(1, kFaultKinds + 1));

TEST(Faults, PicturesOfLineCamerasAreTurnedWhateverTheirLength) {
  for (const Size size : {Size{8, 33000}, Size{33000, 8}}) {
    const torch::Tensor image = picture(1, size.h, size.w);
    const torch::Tensor change = with_fault(image, kind_of(FrameFault::turned), 1) - image;
    const std::int64_t axis = size.h > size.w ? 1 : 2;
    for (const std::int64_t end : {0, 32000}) {
      EXPECT_GT(change.narrow(axis, end, 1000).abs().max().item<float>(), 0.01) << to_string(size);
    }
  }
}

TEST(Faults, TheFirstKindsAreDrawnDefects) {
  const torch::Tensor image = picture(3, 40, 50);
  int kind = 0;
  for (const auto& defect : names(DefectKind{})) {
    torch::Tensor pixels = image.permute({1, 2, 0}).clone(torch::MemoryFormat::Contiguous);
    cv::Mat on(40, 50, CV_32FC3, pixels.data_ptr());
    CounterRandom random(2, 0, 0, Purpose::corruption);
    draw_defect(on, defect.value, random, {});
    EXPECT_TRUE(torch::equal(with_fault(image, ++kind, 2), pixels.permute({2, 0, 1})))
        << to_string(defect.value);
  }
  EXPECT_EQ(kind + 1, kFirstFrameFault);
}

/// Each of the frames' faults is what it is called, whatever the random numbers.
class FrameFaults : public testing::Test {
protected:
  torch::Tensor drawn(FrameFault fault, std::uint64_t seed) const {
    return with_fault(image_, kind_of(fault), seed);
  }

  torch::Tensor image_ = picture(1, 60, 80);
  double mean_ = image_.mean().item<double>(), contrast_ = image_.std().item<double>();
};

double grain_of(const torch::Tensor& image) {
  return (image.slice(2, 1) - image.slice(2, 0, -1)).square().mean().sqrt().item<double>();
}

TEST_F(FrameFaults, AreWhatTheyAreCalled) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    EXPECT_LT(grain_of(drawn(FrameFault::blurred, seed)), 0.8 * grain_of(image_)) << seed;
    EXPECT_LT(drawn(FrameFault::uniform, seed).std().item<double>(), 0.025) << seed;
    EXPECT_GT(drawn(FrameFault::over_exposed, seed).mean().item<double>(), 1.3 * mean_) << seed;
    EXPECT_LT(drawn(FrameFault::under_exposed, seed).mean().item<double>(), 0.35 * mean_) << seed;
    const torch::Tensor noise = drawn(FrameFault::noise, seed);
    const torch::Tensor both = torch::stack({noise.flatten(), image_.flatten()});
    EXPECT_LT(both.corrcoef()[0][1].abs().item<double>(), 0.1) << seed;
    EXPECT_GT(noise.std().item<double>(), 0.04) << seed;
    EXPECT_NEAR(drawn(FrameFault::turned, seed)[0][30][40].item<double>(),
                image_[0][30][40].item<double>(), 0.15)
        << "around the middle";
  }
}

TEST_F(FrameFaults, CoverHidesAThirdToTwoThirds) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const torch::Tensor result = drawn(FrameFault::covered, seed);
    const torch::Tensor hidden = result != image_;
    const double share = hidden.to(torch::kFloat).mean().item<double>();
    EXPECT_GE(share, 0.28) << seed;
    EXPECT_LE(share, 0.71) << seed;
    EXPECT_LT(result.masked_select(hidden).std().item<double>(), 1e-6) << "one colour";
  }
}

TEST_F(FrameFaults, TurnedTakesNothingFromOutside) {
  // What comes in at the corners repeats the edge: none is black.
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    EXPECT_GE(drawn(FrameFault::turned, seed).min().item<float>(), 0.24) << seed;
  }
}

}  // namespace
}  // namespace convae::test_faults
