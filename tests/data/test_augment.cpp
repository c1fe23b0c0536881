#include "convae/data/augment.h"
#include "convae/data/effects.h"
#include "convae/tests/support.h"

#include <set>

namespace convae::test_augment {
namespace {

using test::as_int;
using test::contains;
using test::message_of;

/// (3, 7, 10), every value different enough to see where it went.
torch::Tensor picture() { return torch::arange(3 * 7 * 10).view({3, 7, 10}).to(torch::kUInt8); }

torch::Tensor augmented(const torch::Tensor& image, const std::string& effects,
                        std::int64_t index = 0, std::int64_t epoch = 1, std::uint64_t seed = 3) {
  return augment(image, parse_augmentations(effects), {seed, epoch, index});
}

TEST(Effects, AreReadAndWritten) {
  EXPECT_EQ(to_string(parse_augmentations(" flip , crop:0.6,brightness:0.05 ")),
            "flip:0.5,crop:0.6,brightness:0.05");
  EXPECT_EQ(to_string(parse_corruptions("noise")), "noise:0.1");
  EXPECT_EQ(to_string(parse_corruptions("blur:2.5,cutout,grid:8,blemish,defects")),
            "blur:2.5,cutout:0.25,grid:8,blemish:0.4,defects:0.75");
  EXPECT_EQ(to_string(parse_corruptions("noise:0.02 - 0.2, shot:20-1e3+2.5,jpeg:20-60,shrink:3")),
            "noise:0.02-0.2,shot:20-1000+2.5,jpeg:20-60,shrink:3");
  EXPECT_EQ(to_string(parse_corruptions("noise:1e-6-1e-5")), "noise:1e-06-1e-05");
  EXPECT_EQ(parse_corruptions(to_string(parse_corruptions("noise:1e-6-1e-5"))),
            parse_corruptions("noise:1e-6-1e-5"));
  EXPECT_EQ(to_string(parse_corruptions("shot,jpeg,shrink")), "shot:100,jpeg:30,shrink:2");
  EXPECT_TRUE(parse_corruptions("").empty());
  EXPECT_TRUE(parse_augmentations("none").empty());
}

TEST(Effects, AreRefusedWithWhatWasExpected) {
  const auto corruption = [](const char* text) {
    return message_of<std::invalid_argument>([&] { parse_corruptions(text); });
  };
  EXPECT_TRUE(
      contains(corruption("flip"), "noise, shot, blur, jpeg, shrink, cutout, grid, blemish"));
  EXPECT_TRUE(contains(corruption("noise:-1"), "from 0 to 10"));
  EXPECT_TRUE(contains(corruption("noise:nan"), "from 0 to 10"));
  EXPECT_TRUE(contains(corruption("defects:1.1"), "from 0 to 1"));
  EXPECT_TRUE(contains(corruption("noise:"), "expected a number"));
  for (const char* text : {"noise:0.2-0.1", "noise:0.1-", "noise:0.1-0.2-0.3", "noise:-1-2",
                           "noise:0.1+2", "blur:1-101"}) {
    EXPECT_TRUE(contains(corruption(text), "or a range LOW-HIGH of such")) << text;
  }
  for (const char* text : {"shot:0.5", "shot:100+", "shot:100+-1", "shot:+2", "shot:1+2-3"}) {
    EXPECT_TRUE(contains(corruption(text), "from 1 to 50000")) << text;
    EXPECT_TRUE(contains(corruption(text), "read noise, such as 100+2")) << text;
  }
  for (const char* text : {"jpeg:0", "jpeg:101", "jpeg:20.5", "jpeg:20-60.5"}) {
    EXPECT_TRUE(contains(corruption(text), "expected a whole number from 1 to 100")) << text;
  }
  for (const char* text : {"shrink:1", "shrink:1.5", "shrink:2-4", "shrink:x"}) {
    EXPECT_TRUE(contains(corruption(text), "expected a whole number from 2 to 64 after")) << text;
  }
  EXPECT_TRUE(contains(corruption("noise,,blur"), "NAME or NAME:AMOUNT"));
  EXPECT_TRUE(contains(message_of<std::invalid_argument>([] { parse_augmentations("noise"); }),
                       "flip, flip-vertical, crop, brightness, contrast"));
}

TEST(Augment, FlipsAShareOfTheImages) {
  const torch::Tensor image = picture();
  int flips = 0;
  for (std::int64_t index = 0; index < 400; ++index) {
    const torch::Tensor result = augmented(image, "flip:0.25", index);
    const bool is_flipped = torch::equal(result, image.flip({2}));
    EXPECT_TRUE(is_flipped || torch::equal(result, image));
    flips += is_flipped ? 1 : 0;
  }
  EXPECT_NEAR(flips, 100, 30);
  EXPECT_TRUE(torch::equal(augmented(image, "flip-vertical:1"), image.flip({1})));
  EXPECT_TRUE(torch::equal(augmented(image, "flip:1,flip-vertical:1"), image.flip({1, 2})));
}

TEST(Augment, DependsOnSeedEpochAndIndexAlone) {
  const torch::Tensor image = picture();
  const std::string effects = "crop:0.5,brightness:0.3,contrast:0.5";
  EXPECT_TRUE(torch::equal(augmented(image, effects, 5), augmented(image, effects, 5)));
  EXPECT_FALSE(torch::equal(augmented(image, effects, 5), augmented(image, effects, 6)));
  EXPECT_FALSE(torch::equal(augmented(image, effects, 5), augmented(image, effects, 5, 2)));
  EXPECT_FALSE(torch::equal(augmented(image, effects, 5), augmented(image, effects, 5, 1, 4)));
}

TEST(Augment, LeavesTheOriginalAlone) {
  const torch::Tensor image = picture();
  const torch::Tensor copy = image.clone();
  augmented(image, "flip:1,crop:0.5,brightness:0.5,contrast:0.5");
  EXPECT_TRUE(torch::equal(image, copy));
}

TEST(Augment, BrightnessAddsTheSameToEveryValue) {
  for (const auto type : {torch::kUInt8, torch::kUInt16}) {
    const double range = type == torch::kUInt16 ? 65535 : 255;
    const torch::Tensor image = torch::full({1, 4, 5}, range / 2, torch::kDouble).to(type);
    std::set<int> seen;
    for (std::int64_t index = 0; index < 50; ++index) {
      const torch::Tensor change =
          as_int(augmented(image, "brightness:0.2", index)) - as_int(image);
      EXPECT_EQ(change.min().item<int>(), change.max().item<int>());
      EXPECT_LE(std::abs(change[0][0][0].item<int>()), 0.2 * range + 1);
      seen.insert(change[0][0][0].item<int>());
    }
    EXPECT_GT(seen.size(), 20U);
    EXPECT_LT(*seen.begin(), -0.1 * range);
    EXPECT_GT(*seen.rbegin(), 0.1 * range);
  }
  // The ends of the range hold.
  const torch::Tensor white = torch::full({1, 2, 2}, 255, torch::kUInt8);
  for (std::int64_t index = 0; index < 20; ++index) {
    EXPECT_GE(as_int(augmented(white, "brightness:0.2", index)).min().item<int>(), 204);
  }
}

TEST(Augment, ContrastKeepsTheMeanAndScalesWhatIsAround) {
  const torch::Tensor image = (torch::arange(60).view({1, 6, 10}) + 90).to(torch::kUInt8);
  for (std::int64_t index = 0; index < 30; ++index) {
    const torch::Tensor result = augmented(image, "contrast:0.5", index).to(torch::kDouble);
    EXPECT_NEAR(result.mean().item<double>(), image.to(torch::kDouble).mean().item<double>(), 0.6);
    const double factor =
        (result.max() - result.min()).item<double>() / (image.max() - image.min()).item<double>();
    EXPECT_GE(factor, 0.48);
    EXPECT_LE(factor, 1.52);
  }
}

TEST(Augment, CropShowsAPartAtTheSameSize) {
  const torch::Tensor columns = (torch::arange(100) * 2).view({1, 1, 100}).expand({1, 80, 100});
  const torch::Tensor image = columns.to(torch::kUInt8);
  for (std::int64_t index = 0; index < 20; ++index) {
    const torch::Tensor result = augmented(image, "crop:0.5", index);
    ASSERT_EQ(result.sizes(), image.sizes());
    const int span = as_int(result).max().item<int>() - as_int(result).min().item<int>();
    EXPECT_GE(span, 2 * 48);   // half of the columns
    EXPECT_LE(span, 2 * 100);  // all of them
  }
  EXPECT_TRUE(torch::equal(augmented(image, "crop:1"), image));
}

TEST(Augment, TakesTheSmallestImages) {
  for (const auto type : {torch::kUInt8, torch::kUInt16}) {
    const torch::Tensor pixel = torch::full({3, 1, 1}, 9, torch::kInt).to(type);
    const torch::Tensor result =
        augmented(pixel, "flip:1,flip-vertical:1,crop:0.1,brightness,contrast");
    EXPECT_EQ(result.sizes(), pixel.sizes());
    EXPECT_EQ(result.scalar_type(), type);
  }
}

}  // namespace
}  // namespace convae::test_augment
