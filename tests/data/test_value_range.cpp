#include "convae/data/loader.h"
#include "convae/data/split.h"
#include "convae/data/value_range.h"
#include "convae/tests/support.h"

#include <algorithm>

namespace convae::test_value_range {
namespace {

using test::contains;
using test::entries_of;
using test::message_of;

/// (1, 4, 5) uint16 with these as its least and greatest number.
torch::Tensor deep(int low, int high) {
  torch::Tensor image = torch::linspace(low, high, 20).round().to(torch::kInt).view({1, 4, 5});
  return image.to(torch::kUInt16);
}

std::vector<std::uint8_t> load(const std::string& name) { return read_file(test::fixture(name)); }

ValueRange range_of(double low, double high) { return {ValueRange::Kind::fixed, low, high}; }

torch::Tensor decode(const std::vector<std::uint8_t>& bytes, const ValueRange& range,
                     std::int64_t* clipped = nullptr) {
  return decode_image(bytes, 1, kDefaultMaxPixels, 1, range, clipped);
}

/// What the file's own numbers are.
torch::Tensor numbers_in(const std::vector<std::uint8_t>& bytes) {
  return decode(bytes, {ValueRange::Kind::automatic}).to(torch::kDouble);
}

TEST(ValueRanges, AreReadAndWritten) {
  for (const char* text : {"full", "auto", "0:4095", "-1024:3071", "0.25:1e+20"}) {
    EXPECT_EQ(to_string(parse_value_range(text)), text);
  }
  for (const char* text :
       {"", "0", "0:0", "2:1", "a:b", "0:1:2", "nan:1", "0:inf", ":1", "-1e308:1e308"}) {
    EXPECT_THROW(parse_value_range(text), OptionError) << text;
  }
}

TEST(ValueRanges, PlaceWholeNumbersAndCountWhatIsClipped) {
  const auto deep = torch::tensor({0, 100, 2147, 4095, 5000, 65535}).view({1, 2, 3});
  std::int64_t clipped = 0;
  const auto placed = decode(encode_image(deep.to(torch::kUInt16), ImageFormat::png),
                             range_of(100, 4095), &clipped);
  EXPECT_EQ(placed.scalar_type(), torch::kUInt16);
  const auto expected =
      ((deep - 100).to(torch::kDouble) / 3995).clamp(0, 1).mul(65535).round().to(torch::kInt);
  EXPECT_TRUE(torch::equal(placed.to(torch::kInt), expected));
  EXPECT_EQ(clipped, 3);
}

TEST(ValueRanges, DoNotRoundBytesToBytesAgain) {
  const auto bytes = encode_image(
      torch::tensor({0, 50, 75, 100, 255, 60}).view({1, 2, 3}).to(torch::kUInt8), ImageFormat::png);
  const auto narrow = decode(bytes, range_of(50, 100));
  EXPECT_EQ(narrow.scalar_type(), torch::kUInt16);
  EXPECT_TRUE(torch::equal(narrow.view(-1).to(torch::kInt),
                           torch::tensor({0, 0, 32768, 65535, 65535, 13107}, torch::kInt)));
  const auto wide = decode(bytes, range_of(0, 65535));
  EXPECT_EQ(wide.view(-1).to(torch::kInt)[1].item<int>(), 50);
}

TEST(ValueRanges, MakeSignedAnd32BitSamplesUsable) {
  for (const char* name : {"int16.tif", "uint32.tif"}) {
    const std::vector<std::uint8_t> bytes = load(name);
    const std::string reason = message_of<ImageError>([&] { decode_image(bytes, 1); });
    EXPECT_TRUE(contains(reason, "--value-range auto or LO:HI")) << name << reason;
    const torch::Tensor raw = decode(bytes, {ValueRange::Kind::automatic});
    EXPECT_EQ(raw.scalar_type(), torch::kFloat);
    const double low = raw.min().item<double>(), high = raw.max().item<double>();
    const torch::Tensor expected = (raw.to(torch::kDouble) - low) / (high - low);
    EXPECT_LT(test::difference(decode(bytes, range_of(low, high)), expected), 1e-6) << name;
  }
}

TEST(ValueRanges, MakeLowNumbersLightWhereZeroIsWhite) {
  for (const char* name : {"min_is_white8.tif", "min_is_white16.tif"}) {
    const torch::Tensor raw = numbers_in(load(name));
    const double least = raw.quantile(0.2).ceil().item<double>();
    const double most = raw.quantile(0.8).floor().item<double>();
    // Also wider than the type, or below zero.
    for (const auto& [low, high] :
         {std::pair{least, most}, {0., 4095.}, {-100., 300.}, {-70'000., 70'000.}, {50., 100.}}) {
      SCOPED_TRACE(std::string(name) + " " + to_string(range_of(low, high)));
      std::int64_t clipped = 0;
      const auto placed = decode(load(name), range_of(low, high), &clipped);
      const auto expected = 1 - ((raw - low) / (high - low)).clamp(0, 1);
      EXPECT_LT(test::difference(placed.to(torch::kDouble) / 65535, expected), 1e-5);
      EXPECT_EQ(clipped, ((raw < low) | (raw > high)).sum().item<std::int64_t>());
    }
  }
}

TEST(ValueRanges, AreUndoneInTheFilesOwnNumbersWhereZeroIsWhite) {
  for (const char* name : {"min_is_white8.tif", "min_is_white16.tif", "float_min_is_white.tif"}) {
    const std::vector<std::uint8_t> bytes = load(name);
    const torch::Tensor raw = numbers_in(bytes);
    for (const ValueRange& range : {range_of(-1, 70'000), range_of(0, 300), ValueRange{}}) {
      SCOPED_TRACE(std::string(name) + " " + to_string(range));
      const torch::Tensor image = decode(bytes, range);
      const double top = image.is_floating_point() ? 1 : image.element_size() == 2 ? 65535 : 255;
      const torch::Tensor shares = (image.to(torch::kDouble) / top).to(torch::kFloat);
      std::vector<std::string> lost;
      const auto again = encode_like(shares, bytes, kDefaultMaxPixels, range, lost);
      EXPECT_TRUE(probe_image(again).white_is_zero);
      const torch::Tensor wanted = range.is_fixed() ? raw.clamp(range.low, range.high) : raw;
      const double step = image.is_floating_point() ? 0.01 : 0.6;  // 16 bits of 70001 numbers: 1
      EXPECT_LE(test::difference(numbers_in(again), wanted),
                range.high > 65535 && !image.is_floating_point() ? 1 : step);
    }
  }
}

TEST(ValueRanges, AlphaShowsWhiteWhereZeroIsWhite) {
  std::vector<std::uint8_t> bytes = load("grey_alpha.tif");
  constexpr std::uint8_t kMinIsBlack[] = {6, 1, 3, 0, 1, 0, 0, 0, 1};
  const auto photometric = std::ranges::search(bytes, kMinIsBlack);
  ASSERT_FALSE(photometric.empty());
  photometric.back() = 0;
  const torch::Tensor own = 255 - decode_image(bytes, 1).to(torch::kDouble);
  for (const double high : {255., 4095.}) {
    const auto placed = decode(bytes, range_of(0, high));
    EXPECT_LT(test::difference(placed.to(torch::kDouble) / 65535, 1 - own / high), 1e-5) << high;
  }
}

class ValueRangeTest : public testing::Test {
protected:
  ValueRangeTest() {
    callbacks_.warning = [this](const std::string& line) { warnings_.push_back(line); };
    options_.channels = 1;
    options_.workers = 0;
  }
  void add(const std::string& name, const torch::Tensor& image) {
    test::write_image(folder_ / name, image);
  }
  ImageDataset dataset(const ValueRange& range = {}) {
    return ImageDataset(entries_of(folder_.path()),
                        {.channels = 1, .cache = Cache::none, .value_range = range});
  }

  test::TemporaryFolder folder_;
  DataOptions options_;
  Callbacks callbacks_;
  std::vector<std::string> warnings_;
};

TEST_F(ValueRangeTest, AutomaticIsFromTheLeastToTheGreatestNumberOfAllImages) {
  add("a.png", deep(300, 3000));
  add("b.png", deep(500, 4095));
  test::write_text(folder_ / "broken.png", test::contents(folder_ / "a.png").substr(0, 60));
  const ValueRange range = measure_value_range(entries_of(folder_.path()), options_, callbacks_);
  EXPECT_EQ(to_string(range), "300:4095");
  EXPECT_TRUE(warnings_.empty());
  add("c.png", test::noise(1, 4, 5, 1));
  measure_value_range(entries_of(folder_.path()), options_, callbacks_);
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_TRUE(contains(warnings_[0], "samples of different types")) << warnings_[0];
}

TEST_F(ValueRangeTest, AutomaticLeavesOutImagesOfWhichOnlyCropsAreRead) {
  add("a.png", deep(300, 3000));
  test::write_image(folder_ / "large.png", test::noise(1, 40, 50, 1));
  options_.max_pixels = 100;
  options_.skip_bad = false;
  const ValueRange range = measure_value_range(entries_of(folder_.path()), options_, callbacks_);
  EXPECT_EQ(to_string(range), "300:3000");
}

TEST_F(ValueRangeTest, AutomaticNeedsTwoNumbers) {
  add("a.png", deep(7, 7));
  EXPECT_EQ(message_of<std::runtime_error>(
                [&] { measure_value_range(entries_of(folder_.path()), options_, callbacks_); }),
            "--value-range auto: all values of the images are 7");
}

TEST_F(ValueRangeTest, AutomaticSaysWhyNoImageCanBeRead) {
  add("a.png", deep(0, 7));
  const ImageEntries entries = entries_of(folder_.path());
  test::write_text(folder_ / "a.png", "words");
  EXPECT_EQ(
      message_of<std::runtime_error>([&] { measure_value_range(entries, options_, callbacks_); }),
      "--value-range auto: none of the images can be read, such as 'a.png': not an image: "
      "starts with bytes 77 6f 72 64 73");
}

TEST_F(ValueRangeTest, LittleOfTheRangeIsSaidOnce) {
  for (const char* name : {"a.png", "b.png"}) add(name, deep(0, 4095));
  ImageDataset images = dataset();
  warn_of_little_contrast(images, callbacks_);
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_EQ(warnings_[0],
            "the images use 6.2 % of their range: values from 0 to 4095 of 0 to 65535; if that is "
            "all they have, --value-range auto or LO:HI makes these 0 and 1");
  ImageDataset fitting = dataset(range_of(0, 4095));
  ImageDataset wide = dataset(range_of(0, 40950));
  warn_of_little_contrast(fitting, callbacks_);
  EXPECT_EQ(warnings_.size(), 1U);
  warn_of_little_contrast(wide, callbacks_);
  ASSERT_EQ(warnings_.size(), 2U);
  EXPECT_TRUE(contains(warnings_[1], "10.0 % of their range: values from 0 to 4095"))
      << warnings_[1];
  EXPECT_TRUE(contains(warnings_[1], " of 0 to 40950; ")) << warnings_[1];
}

TEST_F(ValueRangeTest, LittleOfTheRangeIsSaidInTheFilesOwnNumbers) {
  std::vector<std::uint8_t> bytes = encode_image(deep(200, 3999), ImageFormat::tiff);
  const auto is_white_zero = [&] { return probe_image(bytes).white_is_zero; };
  constexpr std::uint8_t kMinIsBlack[] = {6, 1, 3, 0, 1, 0, 0, 0, 1};
  std::ranges::search(bytes, kMinIsBlack).back() = 0;
  ASSERT_TRUE(is_white_zero());
  test::write_text(folder_ / "a.tif", {bytes.begin(), bytes.end()});
  ImageDataset inverted = dataset();
  warn_of_little_contrast(inverted, callbacks_);
  ImageDataset wide = dataset(range_of(-60'000, 60'000));
  warn_of_little_contrast(wide, callbacks_);
  ASSERT_EQ(warnings_.size(), 2U);
  EXPECT_TRUE(contains(warnings_[0], "values from 200 to 3999 of 0 to 65535")) << warnings_[0];
  EXPECT_TRUE(contains(warnings_[1], "values from 20") && contains(warnings_[1], " to 399"))
      << warnings_[1];
  std::filesystem::remove(folder_ / "a.tif");
  std::string pgm = "P5 2 1 4095\n";
  for (const int value : {100, 500}) {
    pgm += {static_cast<char>(value >> 8), static_cast<char>(value & 255)};
  }
  test::write_text(folder_ / "b.pgm", pgm);
  ImageDataset scaled = dataset();
  warn_of_little_contrast(scaled, callbacks_);
  ASSERT_EQ(warnings_.size(), 3U);
  EXPECT_TRUE(contains(warnings_[2], "9.8 % of their range: values from 100 to 500; if that"))
      << warnings_[2];
}

TEST_F(ValueRangeTest, OneImageOfMoreIsEnough) {
  add("a.png", deep(0, 4095));
  add("b.png", deep(0, 20000));
  ImageDataset images = dataset();
  warn_of_little_contrast(images, callbacks_);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(ValueRangeTest, ClippedValuesAreCountedOncePerImage) {
  add("a.png", deep(0, 19));
  add("b.png", deep(5, 9));
  ImageDataset images = dataset(range_of(2, 16));
  EXPECT_EQ(images.clipped_line(), "");
  for (int again = 0; again < 2; ++again) {
    for (std::int64_t i = 0; i < 2; ++i) images.load(i);
  }
  EXPECT_EQ(images.clipped_line(),
            "1 of 2 images have values outside the value range 2:16: 5 (25 % of theirs) were "
            "clipped");
}

TEST_F(ValueRangeTest, ClippedValuesAreAShareOfThoseDecoded) {
  test::write_image(folder_ / "a.jpg", torch::full({1, 64, 64}, 200, torch::kByte),
                    ImageFormat::jpeg);
  ImageDataset images(entries_of(folder_.path()),
                      {.channels = 1, .size = {8, 8}, .value_range = range_of(0, 99)});
  images.load(0);
  EXPECT_TRUE(contains(images.clipped_line(), "(100 % of theirs)")) << images.clipped_line();
}

TEST_F(ValueRangeTest, BatchesTakeTheWidestType) {
  std::filesystem::copy(test::fixture("float32.tif"), folder_ / "a.tif");
  add("b.png", test::noise(1, 5, 6, 1));
  add("c.png", test::noise(1, 5, 6, 2).to(torch::kInt).mul(200).to(torch::kUInt16));
  ImageDataset images = dataset();
  Loader loader(images, plan_in_order(images, 16), View{}, 0);
  const torch::Tensor batch = loader.next()->at(0).images;
  EXPECT_EQ(batch.scalar_type(), torch::kFloat);
  EXPECT_TRUE(torch::equal(batch[0], *images.load(0)));
  EXPECT_LT(test::difference(batch[1] * 255, *images.load(1)), 1e-4);
  EXPECT_LT(test::difference(batch[2] * 65535, test::as_int(*images.load(2))), 1e-2);
}

TEST_F(ValueRangeTest, WhatIsNotReadIsOneLineForAllThatAreAlike) {
  for (const char* name : {"a.tif", "b.tif", "c.tif"}) {
    std::filesystem::copy(test::fixture("five_samples.tif"), folder_ / name);
  }
  std::filesystem::copy(test::fixture("imagej_one_directory.tif"), folder_ / "stack.tif");
  options_.data = folder_.path().string();
  const Refusal nothing = [](const ImageEntry&) { return std::nullopt; };
  find_images(folder_.path(), options_, nothing, callbacks_);
  EXPECT_EQ(warnings_, (std::vector<std::string>{
                           "'a.tif' and 2 more like it: only 3 of its 5 channels are read",
                           "'stack.tif': only the first of its 3 pages is read"}));
}

}  // namespace
}  // namespace convae::test_value_range
