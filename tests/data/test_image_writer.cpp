#include "convae/data/image_writer.h"
#include "convae/tests/support.h"

namespace convae::test_image_writer {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::noise;
using test::TemporaryFolder;

constexpr std::int64_t kSide = 20;
constexpr int kCount = 200;  // more than may be at hand

std::string name_of(int index) { return std::to_string(index) + ".png"; }

torch::Tensor image_of(int index) {
  return noise(/*channels=*/3, kSide, kSide, static_cast<std::uint64_t>(index));
}

/// A name that nothing can be written under, for any user.
fs::path blocked(const TemporaryFolder& folder) {
  fs::create_directory(folder / "blocked.png");
  return folder / "blocked.png";
}

class ImageWriterThreads : public testing::TestWithParam<std::int64_t> {
protected:
  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Workers, ImageWriterThreads, testing::Values(0, 1, 4, 1000));

TEST_P(ImageWriterThreads, WritesEveryImageUnderItsName) {
  ImageWriter writer(GetParam());
  for (int i = 0; i < kCount; ++i)
    writer.write(folder_ / name_of(i), image_of(i), ImageFormat::png);
  writer.finish();
  for (int i = 0; i < kCount; ++i) {
    const auto bytes = read_file(folder_ / name_of(i));
    EXPECT_EQ(bytes, encode_image(image_of(i), ImageFormat::png)) << i;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), kCount);
}

TEST_P(ImageWriterThreads, GoesOnAfterItFinished) {
  ImageWriter writer(GetParam());
  writer.finish();
  for (int i = 0; i < 3; ++i) {
    writer.write(folder_ / name_of(i), image_of(i), ImageFormat::bmp);
    writer.finish();
    EXPECT_EQ(read_file(folder_ / name_of(i)), encode_image(image_of(i), ImageFormat::bmp));
  }
}

TEST_P(ImageWriterThreads, SaysWhyAFileCouldNotBeWritten) {
  const fs::path path = blocked(folder_);
  ImageWriter writer(GetParam());
  const std::string message = message_of<std::runtime_error>([&] {
    writer.write(path, image_of(0), ImageFormat::png);
    writer.finish();
  });
  EXPECT_EQ(message, "cannot write " + path.string() + ": it is a folder");
}

TEST_P(ImageWriterThreads, SaysWhyAnImageCouldNotBeEncoded) {
  ImageWriter writer(GetParam());
  EXPECT_THROW(
      {
        writer.write(folder_ / "a.webp", torch::zeros({3, 1, 16384}, torch::kUInt8),
                     ImageFormat::webp);
        writer.finish();
      },
      ImageError);
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_P(ImageWriterThreads, StopsTakingImagesSoonAfterAFailure) {
  const fs::path path = blocked(folder_);
  ImageWriter writer(GetParam());
  int taken = 0;
  const std::string message = message_of<std::runtime_error>([&] {
    writer.write(path, image_of(0), ImageFormat::png);
    for (; taken < 100 * kCount; ++taken) {
      writer.write(folder_ / name_of(taken), image_of(0), ImageFormat::png);
    }
  });
  EXPECT_NE(message.find("it is a folder"), std::string::npos);
  EXPECT_LE(taken, kCount);
}

TEST_P(ImageWriterThreads, WritesWhatIsAtHandWhenItGoesAway) {
  {
    ImageWriter writer(GetParam());
    for (int i = 0; i < 20; ++i) writer.write(folder_ / name_of(i), image_of(i), ImageFormat::png);
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(read_file(folder_ / name_of(i)), encode_image(image_of(i), ImageFormat::png));
  }
}

TEST(ImageWriter, HasNoMoreAtHandThanItMay) {
  const TemporaryFolder folder;
  // Room for two images, and none for three.
  ImageWriter writer(/*workers=*/3, /*max_bytes=*/2 * 3 * kSide * kSide);
  for (int i = 0; i < kCount; ++i) {
    writer.write(folder / name_of(i), image_of(i), ImageFormat::png);
    const auto there = [&](int index) { return fs::exists(folder / name_of(index)) ? 1 : 0; };
    int written = 0;
    for (int k = 0; k <= i; ++k) written += there(k);
    ASSERT_GE(written, i - 1);
  }
}

TEST(ImageWriter, WritesAnImageThatIsLargerThanAllItMayHold) {
  const TemporaryFolder folder;
  ImageWriter writer(/*workers=*/2, /*max_bytes=*/1);
  for (int i = 0; i < 3; ++i) {
    writer.write(folder / name_of(i), image_of(i), ImageFormat::png);
    ASSERT_TRUE(i == 0 || fs::exists(folder / name_of(i - 1)));
  }
  writer.finish();
  EXPECT_TRUE(fs::exists(folder / name_of(2)));
}

TEST(ImageWriter, TakesImagesStoredInAnyOrder) {
  const TemporaryFolder folder;
  const torch::Tensor planes = image_of(1).contiguous();
  ImageWriter writer(/*workers=*/1);
  writer.write(folder / "whole.png", planes, ImageFormat::png);
  writer.write(folder / "part.png", planes.narrow(1, 3, 9).narrow(2, 5, 7), ImageFormat::png);
  writer.write(folder / "grey.png", planes.narrow(0, 1, 1), ImageFormat::png);
  writer.finish();
  const auto read = [&](const char* name, int channels) {
    return decode_image(read_file(folder / name), channels);
  };
  EXPECT_TRUE(torch::equal(read("whole.png", 3), planes));
  EXPECT_TRUE(torch::equal(read("part.png", 3), planes.narrow(1, 3, 9).narrow(2, 5, 7)));
  EXPECT_TRUE(torch::equal(read("grey.png", 1), planes.narrow(0, 1, 1)));
}

}  // namespace
}  // namespace convae::test_image_writer
