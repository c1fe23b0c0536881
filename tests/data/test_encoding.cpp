#include "convae/data/image_io.h"
#include "convae/tests/support.h"

namespace convae::test_encoding {
namespace {

using test::as_int;
using test::deep_noise;
using test::identical;
using test::noise;

/// What is left of an image that is written and read again.
torch::Tensor again(const torch::Tensor& image, ImageFormat format) {
  const std::vector<std::uint8_t> bytes = encode_image(image, format);
  const ImageInfo info = probe_image(bytes);
  EXPECT_EQ(to_string(info.format), std::string(to_string(format)));
  EXPECT_EQ(info.channels, format == ImageFormat::webp ? 3 : image.size(0));  // it has no grey
  const torch::Tensor read = decode_image(bytes, static_cast<int>(image.size(0)));
  EXPECT_EQ(info.bits, 8 * read.element_size());
  return read;
}

TEST(Encoding, KeepsEveryPixelOfTheLosslessFormats) {
  for (const auto format : {ImageFormat::png, ImageFormat::bmp, ImageFormat::tiff,
                            ImageFormat::webp, ImageFormat::pnm}) {
    for (const int channels : {1, 3}) {
      for (const auto& [height, width] :
           {std::pair{1, 1}, {2, 3}, {1, 4000}, {4000, 1}, {61, 47}}) {
        const auto image = noise(channels, height, width, 1);
        EXPECT_TRUE(identical(again(image, format), image))
            << to_string(format) << ' ' << channels << " x " << height << " x " << width;
      }
    }
  }
}

TEST(Encoding, Keeps16BitsInPngTiffAndPnm) {
  for (const auto format : {ImageFormat::png, ImageFormat::tiff, ImageFormat::pnm}) {
    for (const int channels : {1, 3}) {
      const auto image = deep_noise(channels, 21, 34, 1);
      EXPECT_TRUE(identical(again(image, format), image)) << to_string(format);
    }
  }
}

TEST(Encoding, Scales16BitsDownElsewhere) {
  const auto image = deep_noise(3, 21, 34, 1);
  const auto expected = (as_int(image) / 257.0).round().to(torch::kUInt8);
  for (const auto format : {ImageFormat::bmp, ImageFormat::webp}) {
    EXPECT_TRUE(identical(again(image, format), expected)) << to_string(format);
  }
}

TEST(Encoding, TakesAnyStrides) {
  const auto image = noise(3, 12, 10, 1);
  const auto turned = image.transpose(1, 2).flip({1}).slice(/*dim=*/2, 1, 12, /*step=*/2);
  EXPECT_TRUE(identical(again(turned, ImageFormat::png), turned));
}

TEST(Encoding, KeepsASmoothPictureInJpegNearlyExact) {
  const auto ramp = torch::arange(64).mul(3).to(torch::kUInt8).expand({64, 64});
  const auto image = torch::stack({ramp, ramp.t(), ramp.flip({1})});
  for (const int channels : {1, 3}) {
    const auto part = image.slice(0, 0, channels);
    const auto bytes = encode_image(part, ImageFormat::jpeg);
    EXPECT_EQ(probe_image(bytes).channels, channels);
    EXPECT_LE((as_int(decode_image(bytes, channels)) - as_int(part)).abs().max().item<int>(), 6);
  }
}

TEST(Encoding, SaysWhichSidesAFormatHolds) {
  const auto wide = torch::zeros({1, 1, 70'000}, torch::kUInt8);
  for (const auto& [format, limit] :
       {std::pair{ImageFormat::jpeg, "65500"}, {ImageFormat::webp, "16383"}}) {
    const auto refusal = test::message_of<ImageError>([&] { encode_image(wide, format); });
    EXPECT_TRUE(test::contains(refusal, limit)) << refusal;
  }
  for (const auto format : {ImageFormat::png, ImageFormat::tiff, ImageFormat::bmp}) {
    EXPECT_EQ(again(wide, format).size(2), 70'000);
  }
}

TEST(Encoding, ChecksItsArguments) {
  for (const torch::Tensor& image :
       {noise(2, 3, 3, 1), noise(3, 3, 3, 1).to(torch::kFloat), noise(3, 3, 3, 1)[0]}) {
    EXPECT_THROW(encode_image(image, ImageFormat::png), std::invalid_argument) << image.sizes();
  }
}

/// The values of a PNM file decoded as it is, row by row.
std::vector<std::int64_t> pnm_values(const std::string& file, std::int64_t channels = 1) {
  const auto bytes = std::span(reinterpret_cast<const std::uint8_t*>(file.data()), file.size());
  const torch::Tensor rows =
      as_int(decode_image(bytes, static_cast<int>(channels))).permute({1, 2, 0}).contiguous();
  return {rows.data_ptr<std::int32_t>(), rows.data_ptr<std::int32_t>() + rows.numel()};
}

std::string pnm_refusal(const std::string& file) {
  return test::message_of<ImageError>([&] { pnm_values(file); });
}

TEST(Pnm, AllKindsAreRead) {
  using namespace std::string_literals;
  using Values = std::vector<std::int64_t>;
  EXPECT_EQ(pnm_values("P1\n# note\n3 2\n101 0\n10\n"), (Values{0, 255, 0, 255, 0, 255}));
  EXPECT_EQ(pnm_values("P4\n9 1\n\xA0\x80"s), (Values{0, 255, 0, 255, 255, 255, 255, 255, 0}));
  EXPECT_EQ(pnm_values("P2 2 1 15\n0 5"), (Values{0, 85}));
  EXPECT_EQ(pnm_values("P3\n1 1 #w h\n255\n1 2 3", 3), (Values{1, 2, 3}));
  EXPECT_EQ(pnm_values("P5\n2 2\n255\n\x01\x02\x03\xFF"s), (Values{1, 2, 3, 255}));
  EXPECT_EQ(pnm_values("P6 1 1 255\n\x09\x08\x07"s, 3), (Values{9, 8, 7}));
  EXPECT_EQ(pnm_values("P5 2 1 65535\n\x01\x02\xFF\xFF"s), (Values{258, 65535}));
  EXPECT_EQ(pnm_values("P5 2 1 4095\n\x0F\xFF\x08\x00"s), (Values{65535, 32776}));
}

TEST(Pnm, DamageIsNamed) {
  EXPECT_EQ(pnm_refusal("P5 3 4 255\n1234567"), "truncated PNM: the data ends after 2 of 4 rows");
  EXPECT_EQ(pnm_refusal("P2 2 2 255\n1 2 3"), "truncated PNM: the data ends after 1 of 2 rows");
  EXPECT_EQ(pnm_refusal("P4 9 2\n12"), "truncated PNM: the data ends after 1 of 2 rows");
  EXPECT_EQ(pnm_refusal("P5 x"), "damaged PNM: its header does not say its size");
  EXPECT_EQ(pnm_refusal("P5 1 1 70000\n12"), "damaged PNM: the largest value is 70000");
  EXPECT_EQ(pnm_refusal("P2 1 1 9\n10"), "damaged PNM: a value of 10 above 9");
  EXPECT_TRUE(test::contains(pnm_refusal("P6 100000 100000 255\n"), "too large"));
  EXPECT_TRUE(test::contains(pnm_refusal("P7\nWIDTH 1"), "not an image"));
}

}  // namespace
}  // namespace convae::test_encoding
