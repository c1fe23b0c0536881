#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/data/npy.h"
#include "convae/inference/encode.h"
#include "convae/inference/reconstruct.h"
#include "convae/inference/tiles.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/inference/support.h"

#include <cmath>

namespace convae::test_tiles {
namespace {

using test::contains;
using test::files_in;
using test::image_in;
using test::message_of;
using Names = std::vector<std::string>;

ImageEntry picture_of(std::int64_t width, int bits = 8) {
  ImageEntry picture;
  picture.info.width = width;
  picture.info.height = 5000;
  picture.info.bits = bits;
  return picture;
}

/// One picture that is larger than tiles of 64 pixels, and one that is not.
class TilesTest : public testing::Test {
protected:
  void SetUp() override {
    test::write_image(input() / "large.png", test::noise(3, 203, 187, 1));
    test::write_image(input() / "small.png", test::noise(3, 60, 64, 2));
  }

  std::filesystem::path input() const { return folder_ / "in"; }
  /// So that it is found out as it is decoded.
  void damage(const std::string& name) const {
    std::vector<std::uint8_t> bytes = read_file(input() / name);
    bytes[bytes.size() / 2] ^= 0x55;
    write_file(input() / name, bytes);
  }
  FolderOptions images(std::optional<std::int64_t> tile) const {
    FolderOptions options;
    options.data.data = input().string();
    options.data.workers = 0;
    options.tile = tile;
    return options;
  }
  ReconstructOptions reconstruction(std::optional<std::int64_t> tile) const {
    ReconstructOptions options;
    options.images = images(tile);
    options.output = folder_ / (tile ? "tiled" : "whole");
    options.grid = options.error_map = true;
    return options;
  }
  /// Files hold the same pixels, but for rounding.
  void expect_same_pictures() const {
    const Names names = files_in(folder_ / "whole");
    EXPECT_EQ(files_in(folder_ / "tiled"), names);
    for (const std::string& name : names) {
      if (name.ends_with(".csv")) continue;
      const torch::Tensor a = image_in(folder_ / "whole" / name).to(torch::kDouble);
      const torch::Tensor b = image_in(folder_ / "tiled" / name).to(torch::kDouble);
      ASSERT_EQ(a.sizes(), b.sizes()) << name;
      EXPECT_LT((a - b).abs().mean().item<double>(), 0.001) << name;
    }
  }

  test::TemporaryFolder folder_;
  Model model_ = test::small_model();
};

TEST_F(TilesTest, ALastTileBelowTheWindowOfTheSimilarityCountsToo) {
  test::write_image(input() / "strip.png", test::noise(3, 5, 133, 3));
  test::write_image(input() / "rest.png", test::noise(3, 69, 130, 4));
  const ReconstructResult whole = reconstruct_folder(model_, reconstruction(std::nullopt));
  const ReconstructResult tiled = reconstruct_folder(model_, reconstruction(64));
  expect_same_pictures();
  EXPECT_TRUE(std::isnan(tiled.images[3].quality.ssim));
  EXPECT_NEAR(whole.images[1].quality.ssim, tiled.images[1].quality.ssim, 1e-6);
}

TEST_F(TilesTest, PicturesAboveTheLimitGoThroughByThemselves) {
  ReconstructOptions options = reconstruction(0);
  options.images.data.max_pixels = 12'000;
  std::vector<std::string> lines;
  Callbacks callbacks;
  callbacks.info = [&](const std::string& line) { lines.push_back(line); };
  EXPECT_EQ(reconstruct_folder(model_, options, callbacks).images.size(), 2);
  EXPECT_TRUE(std::ranges::any_of(lines, [](const std::string& line) {
    return line.starts_with("1 of 2 images in tiles of 64x64: 'large.png' has 203x187 pixels");
  })) << testing::PrintToString(lines);
  reconstruct_folder(model_, reconstruction(std::nullopt));
  expect_same_pictures();
}

TEST_F(TilesTest, AWholePictureAboveTheLimitIsSkipped) {
  test::write_image(input() / "large.bmp", test::noise(3, 203, 187, 1), ImageFormat::bmp);
  ReconstructOptions options = reconstruction(0);
  options.images.data.max_pixels = 12'000;
  const ReconstructResult result = reconstruct_folder(model_, options);
  ASSERT_EQ(result.skipped.size(), 1);
  EXPECT_EQ(result.skipped[0].name, "large.bmp");
  EXPECT_TRUE(contains(result.skipped[0].reason, "too large: 187 x 203"));
}

TEST_F(TilesTest, KeepWritesTiffOfTheInputsDepth) {
  const torch::Tensor deep = test::as_int(test::noise(3, 300, 270, 5)).mul(257).to(torch::kUInt16);
  test::write_image(input() / "deep.tif", deep, ImageFormat::tiff);
  ReconstructOptions whole = reconstruction(std::nullopt), tiled = reconstruction(64);
  whole.format = tiled.format = WriteAs::keep;
  reconstruct_folder(model_, whole);
  reconstruct_folder(model_, tiled);
  const torch::Tensor a = image_in(folder_ / "whole" / "deep.tif");
  const torch::Tensor b = image_in(folder_ / "tiled" / "deep.tif");
  ASSERT_EQ(b.scalar_type(), torch::kUInt16);
  EXPECT_LE((test::as_int(a) - test::as_int(b)).abs().max().item<int>(), 1);

  test::write_image(input() / "photo.jpg", test::wave(3, 80, 90, 5), ImageFormat::jpeg);
  tiled.overwrite = true;
  EXPECT_TRUE(contains(message_of<OptionError>([&] { reconstruct_folder(model_, tiled); }),
                       "--format 'keep': 'photo.jpg' goes through in tiles"));
}

TEST_F(TilesTest, TilesFitTheStridesOfBothAxes) {
  ModelOptions options = test::small_options();
  options.levels = parse_levels("4:s4x3,5:k3x5s1x2p1x2");  // 4 and 6 in all
  const Model model = test::small_model(options);
  const TilePlan plan(model, images(0), {.result = TiledResult::latents});
  EXPECT_GT(plan.side(picture_of(5000)), 0);
  EXPECT_EQ(plan.side(picture_of(5000)) % 12, 0) << plan.side(picture_of(5000));
}

TEST_F(TilesTest, TilesAreSmallerWhereRowsOfAWidePictureWouldTakeTheMemory) {
  limit_memory(std::int64_t{4} << 30);
  const TilePlan plan(model_, images(0), {.bytes_written = 3});
  const TilePlan with_grid(model_, images(0), {.bytes_written = 15});
  limit_memory(0);
  const std::int64_t usual = plan.side(picture_of(5000)), less = plan.side(picture_of(1'000'000));
  EXPECT_LT(less, usual);
  EXPECT_LT(with_grid.side(picture_of(1'000'000)), less);
  EXPECT_LT(plan.side(picture_of(1'000'000, /*bits=*/16)), less);
  EXPECT_GE(plan.side(picture_of(1'000'000'000)), 32) << "the smallest, if nothing fits";
}

TEST_F(TilesTest, LatentsAreThoseOfWholePictures) {
  for (const Pooling pool : {Pooling::none, Pooling::mean}) {
    EncodeOptions options;
    options.pool = pool;
    options.overwrite = true;
    const auto encode = [&](std::optional<std::int64_t> tile, const std::string& folder) {
      options.images = images(tile);
      options.output = folder_ / folder / "";
      std::filesystem::create_directories(options.output);
      encode_folder(model_, options);
      return read_npy(options.output / "large.npy");
    };
    const torch::Tensor whole = encode(std::nullopt, "whole"), tiled = encode(64, "tiled");
    ASSERT_EQ(whole.sizes(), tiled.sizes());
    EXPECT_LT((whole - tiled).abs().max().item<double>(), 1e-5);
  }
}

TEST_F(TilesTest, DamageIsSkippedWithoutAResult) {
  damage("large.png");
  const ReconstructResult result = reconstruct_folder(model_, reconstruction(64));
  ASSERT_EQ(result.skipped.size(), 1);
  EXPECT_EQ(result.skipped[0].name, "large.png");
  EXPECT_EQ(files_in(folder_ / "tiled"),
            (Names{"error/small.png", "grid/small.png", "reconstruct.csv", "small.png"}));
}

TEST_F(TilesTest, NoneCouldBeReadIsSaidOfWholePicturesAndTilesTogether) {
  damage("large.png");
  damage("small.png");
  EncodeOptions options;
  options.images = images(64);
  options.output = folder_ / "latents" / "";
  EXPECT_EQ(message_of<std::runtime_error>([&] { encode_folder(model_, options); }),
            "none of the images could be read");
}

TEST_F(TilesTest, SayWhyTheyCannotBeHad) {
  const auto message = [&](const Model& model, ReconstructOptions options) {
    return message_of<OptionError>([&] { reconstruct_folder(model, options); });
  };
  ModelOptions grouped = test::small_options();
  grouped.norm = Norm::group;
  EXPECT_EQ(
      message(test::small_model(grouped), reconstruction(64)),
      "--tile '64': group normalisation goes by the mean of whole pictures; leave --tile out");
  EXPECT_NO_THROW(reconstruct_folder(test::small_model(grouped), reconstruction(0)));
  ReconstructOptions options = reconstruction(200);
  options.images.data.max_pixels = 39'999;
  EXPECT_EQ(message(model_, options), "--tile '200': a tile has more than --max-pixels 39999");
}

}  // namespace
}  // namespace convae::test_tiles
