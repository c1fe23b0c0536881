#include "convae/evaluation/jpeg_size.h"
#include "convae/tests/support.h"

namespace convae::test_jpeg_size {
namespace {

using test::contains;

std::int64_t distance(const SizedJpeg& jpeg, std::int64_t bytes) {
  return std::abs(jpeg.picture_bytes - bytes);
}

TEST(JpegNear, ComesNearAnySizeThatJpegHas) {
  for (const std::int64_t channels : {1, 3}) {
    const torch::Tensor image =
        (test::wave(channels, 61, 94, 1) / 2 + test::noise(channels, 61, 94, 2) / 4)
            .to(torch::kUInt8);
    const std::int64_t smallest = encode_jpeg_near(image, 1).picture_bytes;
    const std::int64_t largest = encode_jpeg_near(image, 1'000'000).picture_bytes;
    ASSERT_LT(2 * smallest, largest);
    // Neighbouring qualities differ by a few percent; tests/interop tries all of them.
    std::int64_t before = 0;
    for (std::int64_t bytes = smallest; bytes < largest / 2; bytes += 371) {
      const SizedJpeg jpeg = encode_jpeg_near(image, bytes);
      EXPECT_GE(jpeg.picture_bytes, before);
      before = jpeg.picture_bytes;
      EXPECT_LT(distance(jpeg, bytes), 0.1 * static_cast<double>(bytes));
      EXPECT_EQ(encode_jpeg_near(image, jpeg.picture_bytes).picture_bytes, jpeg.picture_bytes);
    }
  }
}

TEST(JpegNear, TriesQualitiesAroundAsMoreMayTakeLess) {
  bool has_found_more = false;
  for (int seed = 0; seed < 40 && !has_found_more; ++seed) {
    has_found_more = encode_jpeg_near(test::noise(1, 28, 28, seed) / 16, 1).quality > 1;
  }
  EXPECT_TRUE(has_found_more);
}

TEST(JpegNear, EndsAtTheLowestAndTheHighestQuality) {
  const torch::Tensor image = test::wave(1, 28, 28, 3);
  const SizedJpeg smallest = encode_jpeg_near(image, 1);
  EXPECT_EQ(smallest.quality, 1);
  EXPECT_GT(smallest.picture_bytes, 1);
  const SizedJpeg largest = encode_jpeg_near(image, 1'000'000);
  EXPECT_EQ(largest.quality, 100);
  EXPECT_LT(test::difference(decode_image(largest.file, 1), image), 3);
}

TEST(JpegNear, CountsWhatDependsOnThePicture) {
  // Headers and tables take as much for a flat picture as for noise.
  const SizedJpeg flat = encode_jpeg_near(torch::full({1, 64, 64}, 128, torch::kByte), 1);
  const SizedJpeg noisy = encode_jpeg_near(test::noise(1, 64, 64, 4), 1);
  const auto rest = [](const SizedJpeg& jpeg) {
    return std::ssize(jpeg.file) - jpeg.picture_bytes;
  };
  EXPECT_EQ(rest(flat), rest(noisy));
  // 64 blocks whose one coefficient is that of the block before: 2 + 4 bits each.
  EXPECT_EQ(flat.picture_bytes, 64 * 6 / 8);
  EXPECT_GT(noisy.picture_bytes, flat.picture_bytes);
}

TEST(JpegNear, TakesSixteenBits) {
  const torch::Tensor image = test::wave(3, 40, 40, 1);
  const torch::Tensor wide = (image.to(torch::kInt) * 257).to(torch::kUInt16);
  EXPECT_EQ(encode_jpeg_near(wide, 500).file, encode_jpeg_near(image, 500).file);
}

TEST(JpegNear, MayHaveMorePixelsThanFoldersUsuallyTake) {
  const torch::Tensor image = torch::full({1, 10'001, 10'000}, 128, torch::kByte);
  ASSERT_GT(image.numel(), kDefaultMaxPixels);
  const SizedJpeg jpeg{encode_image(image, ImageFormat::jpeg)};
  EXPECT_TRUE(torch::equal(decode_jpeg(jpeg, 1), image));
}

TEST(JpegNear, RefusesSidesThatJpegCannotHold) {
  const auto message = test::message_of<ImageError>([] {
    encode_jpeg_near(torch::zeros({1, 1, kMaxJpegSide + 1}, torch::kByte), 10);
  });
  EXPECT_TRUE(contains(message, "65500")) << message;
}

}  // namespace
}  // namespace convae::test_jpeg_size
