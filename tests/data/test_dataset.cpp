#include "convae/core/errors.h"
#include "convae/data/dataset.h"
#include "convae/data/split.h"
#include "convae/tests/support.h"

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace convae::test_dataset {
namespace {

namespace fs = std::filesystem;
using test::as_int;
using test::contains;
using test::entries_of;
using test::message_of;
using test::noise;
using test::TemporaryFolder;
using test::write_image;
using test::write_text;

using Skipped = std::vector<SkippedFile>;

FoundImages scan(const fs::path& folder, std::int64_t max_pixels = kDefaultMaxPixels) {
  return scan_headers(list_images(folder), max_pixels, /*workers=*/0);
}

ImageDataset::Options options_with(std::int64_t channels, Cache cache = Cache::none) {
  return {.channels = channels, .cache = cache};
}

TEST(ImageDataset, CountsTheCopiesThatDecodingMakes) {
  ImageInfo info;
  info.height = 10;
  info.width = 20;
  const auto bytes = [&](int bits, int orientation, const ValueRange& range = {}) {
    info.bits = bits;
    info.orientation = orientation;
    const ImageDataset images({{{.file = {"a", "a"}, .info = info}}}, {.value_range = range});
    return std::pair(images.decoded_bytes(0) / 600, images.stored_bytes(0) / 600);
  };
  using Bytes = std::pair<std::int64_t, std::int64_t>;
  const ValueRange range{ValueRange::Kind::fixed, 0, 99};
  EXPECT_EQ(bytes(8, 1), (Bytes{1, 1}));
  EXPECT_EQ(bytes(16, 6), (Bytes{4, 2})) << "as stored and upright";
  EXPECT_EQ(bytes(8, 1, range), (Bytes{3, 2})) << "bytes, and their places in the range";
  EXPECT_EQ(bytes(16, 3, range), (Bytes{6, 2}));
  EXPECT_EQ(bytes(32, 1, range), (Bytes{4, 4})) << "floats are placed one by one";
}

TEST(ScanHeaders, TellsSizeChannelsAndBits) {
  TemporaryFolder folder;
  write_image(folder / "grey.png", noise(1, 5, 9, 1));
  write_image(folder / "colour.jpg", noise(3, 31, 17, 2), ImageFormat::jpeg);
  write_image(folder / "wide.tif", noise(1, 4, 4, 3).to(torch::kUInt16), ImageFormat::tiff);
  const ImageEntries entries = scan(folder.path()).entries;
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[0].file.name, "colour.jpg");
  EXPECT_EQ(entries[0].file_size(), (Size{31, 17}));
  EXPECT_EQ(entries[0].info.channels, 3);
  EXPECT_EQ(entries[1].file_size(), (Size{5, 9}));
  EXPECT_EQ(entries[1].info.channels, 1);
  EXPECT_EQ(entries[1].info.bits, 8);
  EXPECT_EQ(entries[2].info.bits, 16);
  EXPECT_FALSE(all_grey(entries));
  fs::remove(folder / "colour.jpg");
  EXPECT_TRUE(all_grey(scan(folder.path()).entries));
}

TEST(ScanHeaders, LeavesOutWhatIsNoImageAndSaysWhy) {
  TemporaryFolder folder;
  write_image(folder / "good.png", noise(1, 3, 3, 1));
  write_text(folder / "empty.png", "");
  write_text(folder / "text.jpg", "hello, world");
  write_text(folder / "film.gif", "GIF89a...");
  fs::create_symlink("gone", folder / "dangling.png");
  const FoundImages found = scan(folder.path());
  ASSERT_EQ(found.entries.size(), 1U);
  EXPECT_EQ(found.entries.name(0), "good.png");
  EXPECT_EQ(found.skipped,
            (Skipped{{"dangling.png", "the link leads nowhere"},
                     {"empty.png", "empty file (0 bytes)"},
                     {"film.gif", "GIF is not supported; convert it to PNG"},
                     {"text.jpg", "not an image: starts with bytes 68 65 6c 6c 6f 2c 20 77"}}));
}

TEST(ScanHeaders, TakesExactlyUpToMaxPixels) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(1, 10, 10, 1));
  write_image(folder / "b.png", noise(1, 10, 11, 2));
  const FoundImages found = scan(folder.path(), /*max_pixels=*/100);
  ASSERT_EQ(found.entries.size(), 1U);
  EXPECT_EQ(found.entries.name(0), "a.png");
  EXPECT_EQ(found.skipped,
            (Skipped{{"b.png",
                      "too large: 11 x 10 (width x height) is more than the limit of 100 "
                      "pixels; --max-pixels allows more"}}));
}

TEST(ScanHeaders, FindsTheSameWithAnyNumberOfWorkers) {
  TemporaryFolder folder;
  for (int i = 0; i < 260; ++i) {  // enough for several threads to start
    const std::string name = std::to_string(i) + ".png";
    if (i % 7 == 3) {
      write_text(folder / name, "bad");
    } else {
      write_image(folder / name, noise(1, 1 + i % 5, 1 + i % 3, 1));
    }
  }
  const ImageFolder listed = list_images(folder.path());
  const FoundImages alone = scan_headers(listed, kDefaultMaxPixels, 0);
  EXPECT_EQ(alone.entries.size() + alone.skipped.size(), 260U);
  EXPECT_EQ(alone.skipped.size(), 37U);
  for (const std::int64_t workers : {1, 2, 5}) {
    const FoundImages found = scan_headers(listed, kDefaultMaxPixels, workers);
    ASSERT_EQ(found.entries.size(), alone.entries.size());
    for (std::size_t i = 0; i < found.entries.size(); ++i) {
      EXPECT_EQ(found.entries.name(i), alone.entries.name(i));
      EXPECT_EQ(found.entries[i].info, alone.entries[i].info);
    }
    EXPECT_EQ(found.skipped, alone.skipped);
  }
}

TEST(ScanHeaders, ReadsOnOverAJpegHeaderOfAnyLength) {
  TemporaryFolder folder;
  const std::vector<std::uint8_t> plain = encode_image(noise(3, 12, 21, 1), ImageFormat::jpeg);
  std::string bytes(plain.begin(), plain.begin() + 2);  // SOI
  for (int i = 0; i < 6; ++i) {  // six comments of 60 kB: more than what is read at first
    bytes.append("\xFF\xFE\xEA\x60");
    bytes.append(0xEA60 - 2, 'c');
  }
  bytes.append(plain.begin() + 2, plain.end());
  write_text(folder / "a.jpg", bytes);
  const FoundImages found = scan(folder.path());
  ASSERT_EQ(found.entries.size(), 1U) << found.skipped.at(0).reason;
  EXPECT_EQ(found.entries[0].file_size(), (Size{12, 21}));
}

TEST(ImageDataset, GivesThePixelsOfTheFile) {
  TemporaryFolder folder;
  const torch::Tensor colour = noise(3, 6, 7, 1);
  const torch::Tensor wide = noise(3, 4, 5, 2).to(torch::kInt).mul(251).to(torch::kUInt16);
  write_image(folder / "a.png", colour);
  write_image(folder / "b.png", wide);
  ImageDataset dataset(entries_of(folder.path()), options_with(3));
  ASSERT_EQ(dataset.size(), 2);
  const auto first = dataset.load(0);
  ASSERT_TRUE(first);
  EXPECT_TRUE(test::identical(*first, colour));
  EXPECT_EQ(first->strides(), (std::vector<std::int64_t>{1, 21, 3}));  // channels last
  const auto second = dataset.load(1);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->scalar_type(), torch::kUInt16);
  EXPECT_TRUE(torch::equal(as_int(*second), as_int(wide)));
}

TEST(ImageDataset, TellsTheSizeThatBatchesSee) {
  TemporaryFolder folder;
  const torch::Tensor image = noise(1, 12, 20, 1);
  write_image(folder / "a.png", image);
  const auto entries = entries_of(folder.path());
  ImageDataset::Options options = options_with(1);
  EXPECT_EQ(ImageDataset(entries, options).image_size(0), (Size{12, 20}));
  options.size = {6, 5};
  EXPECT_EQ(ImageDataset(entries, options).image_size(0), (Size{6, 5}));
  options.crop = {4, 5};
  ImageDataset cropped(entries, options);
  EXPECT_EQ(cropped.image_size(0), (Size{4, 5}));
  const torch::Tensor loaded = cropped.load(0).value();  // uncropped, each pixel the mean of 2 × 4
  EXPECT_EQ(loaded.scalar_type(), torch::kUInt8);
  EXPECT_EQ(loaded.sizes(), (std::vector<std::int64_t>{1, 6, 5}));
  const torch::Tensor means = torch::avg_pool2d(image.to(torch::kDouble), {2, 4});
  EXPECT_LE(test::difference(loaded, means), 0.5 + 1e-9);
}

TEST(ImageDataset, KeepsImagesInMemoryIfAskedTo) {
  TemporaryFolder folder;
  const torch::Tensor image = noise(3, 6, 7, 1);
  write_image(folder / "a.png", image);
  for (const Cache cache : {Cache::ram, Cache::automatic}) {  // a small image fits in any memory
    write_image(folder / "a.png", image);
    ImageDataset dataset(entries_of(folder.path()), options_with(3, cache));
    EXPECT_FALSE(dataset.cached(0));
    ASSERT_TRUE(dataset.load(0));
    EXPECT_TRUE(dataset.cached(0));
    fs::remove(folder / "a.png");
    const auto again = dataset.load(0);
    ASSERT_TRUE(again);
    EXPECT_TRUE(torch::equal(*again, image));
  }
}

TEST(ImageDataset, ReadsTheFileEachTimeWithoutACache) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 6, 7, 1));
  ImageDataset dataset(entries_of(folder.path()), options_with(3, Cache::none));
  ASSERT_TRUE(dataset.load(0));
  EXPECT_FALSE(dataset.cached(0));
  const torch::Tensor changed = noise(3, 6, 7, 2);
  write_image(folder / "a.png", changed);
  EXPECT_TRUE(torch::equal(dataset.load(0).value(), changed));
}

TEST(ImageDataset, ReportsABadFileOnceHoweverOftenItIsAskedFor) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 30, 30, 1));
  write_image(folder / "b.png", noise(3, 30, 30, 2));
  ImageDataset dataset(entries_of(folder.path()), options_with(3));
  const std::string whole = test::contents(folder / "b.png");
  write_text(folder / "b.png", whole.substr(0, whole.size() / 2));
  std::atomic<int> reports = 0;
  dataset.on_bad_file = [&](const SkippedFile& file) {
    EXPECT_EQ(file.name, "b.png");
    ++reports;
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 5; ++j) {
          EXPECT_TRUE(dataset.load(0));
          EXPECT_FALSE(dataset.load(1));
        }
      });
    }
  }
  EXPECT_EQ(reports, 1);
  ASSERT_EQ(dataset.bad_files().size(), 1U);
  EXPECT_EQ(dataset.bad_files()[0].name, "b.png");
  EXPECT_TRUE(contains(dataset.bad_files()[0].reason, "PNG")) << dataset.bad_files()[0].reason;
  EXPECT_TRUE(dataset.cached(1));  // nothing to decode any more
  EXPECT_FALSE(dataset.cached(0));
}

TEST(ImageDataset, CallbackForABadFileMayAskForAllOfThem) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 6, 7, 1));
  ImageDataset dataset(entries_of(folder.path()), options_with(3));
  write_text(folder / "a.png", "");
  std::size_t known = 0;
  dataset.on_bad_file = [&](const SkippedFile&) { known = dataset.bad_files().size(); };
  EXPECT_FALSE(dataset.load(0));
  EXPECT_EQ(known, 1U);
}

/// No further file can be opened while it lives.
class NoMoreFiles {
public:
  NoMoreFiles() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoMoreFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
  rlimit before_{};
};

TEST(ImageDataset, AFileThatFailsForAPassingReasonIsTriedAgainAndNotBadForGood) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "where nothing can be opened, the sanitizer cannot check an exception's type";
#endif
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 6, 7, 1));
  ImageDataset dataset(entries_of(folder.path()), options_with(3));
  int reports = 0;
  dataset.on_bad_file = [&](const SkippedFile&) { ++reports; };
  {
    const NoMoreFiles full;
    EXPECT_FALSE(dataset.load(0));
    EXPECT_FALSE(dataset.load(0));
    EXPECT_EQ(reports, 1);
    ASSERT_EQ(dataset.bad_files().size(), 1U);
    EXPECT_TRUE(contains(dataset.bad_files()[0].reason, "Too many open files; it is tried again"))
        << dataset.bad_files()[0].reason;
    EXPECT_FALSE(dataset.cached(0));
  }
  EXPECT_TRUE(dataset.load(0));
  EXPECT_TRUE(dataset.bad_files().empty());
  // One that fails only for a moment is not even reported.
  std::jthread opener;
  {
    const NoMoreFiles full;
    opener = std::jthread([&] { EXPECT_TRUE(dataset.load(0)); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  opener.join();
  EXPECT_EQ(reports, 1);
}

TEST(ImageDataset, MemoryThatCannotBeHadMayPassAndADamagedFileDoesNot) {
  EXPECT_TRUE(may_pass(std::bad_alloc()));
  EXPECT_TRUE(may_pass(PassingError("stale file handle")));
  EXPECT_TRUE(may_pass(std::runtime_error("DefaultCPUAllocator: can't allocate memory: 9 bytes")));
  EXPECT_FALSE(may_pass(ImageError("truncated PNG")));
}

TEST(ImageDataset, KeepsImagesOnlyWithinWhatItIsGiven) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 6, 7, 1));
  ImageDataset dataset(entries_of(folder.path()), options_with(3, Cache::automatic));
  EXPECT_EQ(dataset.cache_within(3 * 6 * 7), 0);
  dataset.load(0);
  EXPECT_FALSE(dataset.cached(0));
  EXPECT_EQ(dataset.cache_within(3 * 6 * 7 + 1), 3 * 6 * 7);
  dataset.load(0);
  EXPECT_TRUE(dataset.cached(0));
  ImageDataset always(entries_of(folder.path()), options_with(3, Cache::ram));
  EXPECT_EQ(always.cache_within(0), 3 * 6 * 7);
}

TEST(ImageDataset, ThrowsForABadFileIfNoneMayBeSkipped) {
  TemporaryFolder folder;
  write_image(folder / "a\n.png", noise(3, 6, 7, 1));
  ImageDataset dataset(entries_of(folder.path()), {.cache = Cache::none, .skip_bad = false});
  write_text(folder / "a\n.png", "");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(message_of<std::runtime_error>([&] { dataset.load(0); }),
              "'a\\n.png': empty file (0 bytes) (--skip-bad is false)");
  }
  EXPECT_TRUE(dataset.bad_files().empty());
}

TEST(ImageDataset, RefusesAFileThatChangedItsSizeSinceItWasListed) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 6, 7, 1));
  ImageDataset dataset(entries_of(folder.path()), options_with(3));
  write_image(folder / "a.png", noise(3, 7, 6, 1));
  EXPECT_FALSE(dataset.load(0));
  EXPECT_EQ(dataset.bad_files().at(0).reason, "its size changed since it was listed");
}

TEST(ImageDataset, KeepsToMaxPixelsWhenItDecodes) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 10, 10, 1));
  ImageDataset dataset(entries_of(folder.path()), {.cache = Cache::none, .max_pixels = 99});
  EXPECT_FALSE(dataset.load(0));
  EXPECT_EQ(dataset.bad_files().at(0).reason,
            "too large: 10 x 10 (width x height) is more than the limit of 99 pixels; --max-pixels "
            "allows more");
}

TEST(ImageDataset, ReadsCropsOfImagesAboveTheLimitFromTheirFiles) {
  TemporaryFolder folder;
  const torch::Tensor image = noise(3, 40, 50, 1);
  write_image(folder / "a.png", image);
  write_image(folder / "b.bmp", image, ImageFormat::bmp);
  const ImageDataset::Options options{.crop = {20, 25}, .cache = Cache::ram, .max_pixels = 500};
  DataOptions data;
  data.crop = options.crop;
  data.max_pixels = options.max_pixels;
  const FoundImages found =
      find_images(folder.path(), data, [](const ImageEntry&) { return std::nullopt; });
  ASSERT_EQ(found.entries.size(), 1);
  EXPECT_EQ(found.skipped.at(0).name, "b.bmp");

  ImageDataset dataset(found.entries, options);
  EXPECT_EQ(dataset.cache_within(1 << 20), 0);
  EXPECT_EQ(dataset.image_size(0), options.crop);
  const auto crop = dataset.load_crop(0, [](Size free) {
    EXPECT_EQ(free, (Size{20, 25}));
    return Size{3, 20};
  });
  ASSERT_TRUE(crop);
  EXPECT_TRUE(crop->equal(image.slice(1, 3, 23).slice(2, 20, 45)));
  const auto middle = dataset.load(0);
  ASSERT_TRUE(middle);
  EXPECT_TRUE(middle->equal(image.slice(1, 10, 30).slice(2, 12, 37)));
  EXPECT_FALSE(dataset.cached(0));
}

TEST(DataOptions, NameTheOptionItsValueAndWhatIsExpected) {
  const auto refusal = [](auto change) {
    DataOptions options;
    change(options);
    return message_of<std::invalid_argument>([&] { options.validate(); });
  };
  EXPECT_EQ(refusal([](DataOptions& o) { o.channels = 2; }), "channels must be 1 or 3, but is 2");
  EXPECT_EQ(refusal([](DataOptions& o) { o.val_split = 1; }),
            "val-split must be at least 0 and below 1, but is 1.000000");
  EXPECT_EQ(refusal([](DataOptions& o) { o.workers = -2; }),
            "workers must be between 0 and 1024 (or -1 for one a core), but is -2");
  EXPECT_EQ(refusal([](DataOptions& o) { o.max_pixels = 0; }),
            "max-pixels must be at least 1, but is 0");
  EXPECT_EQ(refusal([](DataOptions& o) {
              o.size = {32, 64};
              o.crop = {33, 10};
            }),
            "crop 33x10 does not fit into size 32x64");
}

}  // namespace
}  // namespace convae::test_dataset
