#include "convae/data/windows.h"
#include "convae/tests/support.h"

#include <tiffio.h>

namespace convae::test_windows {
namespace {

using test::noise;
using test::TemporaryFolder;
using test::wave;

constexpr Region kWindows[] = {{{0, 40}, {0, 30}},   {{0, 40}, {30, 64}},  {{0, 40}, {64, 90}},
                               {{30, 71}, {0, 90}},  {{60, 71}, {80, 90}}, {{5, 6}, {7, 8}},
                               {{10, 50}, {12, 77}}, {{0, 71}, {0, 90}}};

/// All of kWindows are what decode_image() has there.
void expect_windows(const std::filesystem::path& file, bool in_parts,
                    const ValueRange& range = {}) {
  const std::vector<std::uint8_t> bytes = read_file(file);
  for (const int channels : {1, 3}) {
    SCOPED_TRACE(file.filename().string() + " channels " + std::to_string(channels));
    std::int64_t clipped = 0;
    const torch::Tensor all =
        decode_image(bytes, channels, kDefaultMaxPixels, /*reduction=*/1, range, &clipped);
    // Pictures that are read in parts may be larger than the limit.
    ImageWindows picture({"", file}, channels, in_parts ? 10 : kDefaultMaxPixels, range);
    EXPECT_EQ(reads_in_parts({"", file}), in_parts);
    ASSERT_EQ(picture.size(), (Size{all.size(1), all.size(2)}));
    for (const Region& window : kWindows) {
      const torch::Tensor found = picture.read(window);
      const torch::Tensor expected = all.slice(1, window.rows.begin, window.rows.end)
                                         .slice(2, window.columns.begin, window.columns.end);
      ASSERT_EQ(found.scalar_type(), expected.scalar_type());
      ASSERT_EQ(found.sizes(), expected.sizes());
      EXPECT_TRUE(found.to(torch::kDouble).equal(expected.to(torch::kDouble)));
    }
    EXPECT_EQ(picture.clipped() > 0, clipped > 0);
  }
}

struct TiffKind {
  const char* name;
  int bits = 8, samples = 3, compression = COMPRESSION_NONE;
  int tile = 0, rows_per_strip = 0;
  bool separate = false, big = false;
  int format = SAMPLEFORMAT_UINT;
};

/// 71 x 90 pixels of noise.
void write_tiff(const std::filesystem::path& path, const TiffKind& kind) {
  TIFF* tiff = TIFFOpen(path.c_str(), kind.big ? "w8" : "w");
  ASSERT_NE(tiff, nullptr);
  constexpr int kHeight = 71, kWidth = 90;
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, kHeight);
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, kWidth);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, kind.samples);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, kind.bits);
  TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT, kind.format);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION, kind.compression);
  const bool jpeg = kind.compression == COMPRESSION_JPEG;
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC,
               jpeg                ? PHOTOMETRIC_YCBCR
               : kind.samples >= 3 ? PHOTOMETRIC_RGB
                                   : PHOTOMETRIC_MINISBLACK);
  if (jpeg && !kind.separate) TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
  if (jpeg && kind.separate) TIFFSetField(tiff, TIFFTAG_YCBCRSUBSAMPLING, 1, 1);
  if (kind.samples == 4) {
    const std::uint16_t alpha = EXTRASAMPLE_UNASSALPHA;
    TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, 1, &alpha);
  }
  TIFFSetField(tiff, TIFFTAG_PLANARCONFIG,
               kind.separate ? PLANARCONFIG_SEPARATE : PLANARCONFIG_CONTIG);
  if (kind.tile > 0) {
    TIFFSetField(tiff, TIFFTAG_TILEWIDTH, kind.tile);
    TIFFSetField(tiff, TIFFTAG_TILELENGTH, kind.tile);
  } else {
    TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, kind.rows_per_strip);
  }
  // More bytes than any block has.
  const torch::Tensor pixels =
      kind.format == SAMPLEFORMAT_IEEEFP
          ? test::uniform({20'000}, 1)
          : (jpeg ? wave(3, 1, 20'000, 3) : noise(1, 1, 60'000, 1)).flatten();
  auto* data = static_cast<std::uint8_t*>(pixels.data_ptr());
  const auto blocks = kind.tile > 0 ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff);
  for (std::uint32_t block = 0; block < blocks; ++block) {
    const std::uint32_t shift = block % 7 * 4;
    if (kind.tile > 0) {
      ASSERT_GE(TIFFWriteEncodedTile(tiff, block, data + shift, TIFFTileSize(tiff)), 0);
    } else {
      const std::uint32_t strips_a_plane =
          blocks / static_cast<std::uint32_t>(kind.separate ? kind.samples : 1);
      const auto rows = TIFFVStripSize(
          tiff,
          std::min<std::uint32_t>(
              static_cast<std::uint32_t>(kind.rows_per_strip),
              kHeight - block % strips_a_plane * static_cast<std::uint32_t>(kind.rows_per_strip)));
      ASSERT_GE(TIFFWriteEncodedStrip(tiff, block, data + shift, rows), 0);
    }
  }
  TIFFClose(tiff);
}

TEST(ImageWindows, OfEveryKindOfTiffAreThoseOfTheWholePicture) {
  const TemporaryFolder folder;
  constexpr TiffKind kKinds[] = {
      {.name = "tiles", .tile = 32},
      {.name = "big tiles of 16 bits",
       .bits = 16,
       .compression = COMPRESSION_ADOBE_DEFLATE,
       .tile = 16,
       .big = true},
      {.name = "tiles of JPEG", .compression = COMPRESSION_JPEG, .tile = 32},
      {.name = "tiles in planes", .tile = 48, .separate = true},
      {.name = "tiles with alpha", .samples = 4, .tile = 32},
      {.name = "grey tiles of a bit", .bits = 1, .samples = 1, .tile = 32},
      {.name = "tiles of floats",
       .bits = 32,
       .samples = 1,
       .tile = 32,
       .format = SAMPLEFORMAT_IEEEFP},
      {.name = "strips", .rows_per_strip = 7},
      {.name = "one strip", .compression = COMPRESSION_LZW, .rows_per_strip = 71},
      {.name = "strips of JPEG", .compression = COMPRESSION_JPEG, .rows_per_strip = 16},
      {.name = "strips in planes", .rows_per_strip = 10, .separate = true},
      {.name = "strips with alpha of 16 bits",
       .bits = 16,
       .samples = 4,
       .compression = COMPRESSION_ADOBE_DEFLATE,
       .rows_per_strip = 9},
  };
  for (const TiffKind& kind : kKinds) {
    const auto file = folder / (std::string(kind.name) + ".tif");
    write_tiff(file, kind);
    expect_windows(file, /*in_parts=*/true);
  }
  expect_windows(folder / "tiles.tif", true, {ValueRange::Kind::fixed, 20, 200});
  expect_windows(folder / "strips.tif", true, {ValueRange::Kind::fixed, -3, 300});
  expect_windows(folder / "tiles of floats.tif", true, {ValueRange::Kind::fixed, 0.2, 0.7});
}

TEST(ImageWindows, DoNotTakePlanesOfYCbCrForColours) {
  const TemporaryFolder folder;
  write_tiff(folder / "a.tif",
             {.name = "", .compression = COMPRESSION_JPEG, .rows_per_strip = 80, .separate = true});
  EXPECT_EQ(test::message_of<ImageError>([&] {
              ImageWindows({"", folder / "a.tif"}, 3, kDefaultMaxPixels);
            }),
            "unsupported TIFF: YCbCr in separate planes");
}

TEST(ImageWindows, OfPngAndJpegAreThoseOfTheWholePicture) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, const torch::Tensor& image, ImageFormat format) {
    write_file(folder / name, encode_image(image, format));
    return folder / name;
  };
  expect_windows(write("rgb.png", noise(3, 71, 90, 1), ImageFormat::png), true);
  expect_windows(write("grey.png", noise(1, 71, 90, 2), ImageFormat::png), true);
  expect_windows(write("deep.png", test::deep_noise(3, 71, 90, 3), ImageFormat::png), true);
  expect_windows(write("photo.jpg", wave(3, 71, 90, 4), ImageFormat::jpeg), true);
  write_file(folder / "small.jpg", encode_small_jpeg(wave(3, 71, 90, 4), 80));
  expect_windows(folder / "small.jpg", true);  // colours at half the size are smoothed over rows
  expect_windows(write("photo.bmp", noise(3, 71, 90, 5), ImageFormat::bmp), false);
  expect_windows(write("photo.webp", noise(3, 71, 90, 6), ImageFormat::webp), false);
}

TEST(ImageWindows, SayWhatIsWrongWithAFile) {
  const TemporaryFolder folder;
  std::vector<std::uint8_t> bytes = encode_image(wave(3, 71, 90, 1), ImageFormat::jpeg);
  bytes.resize(bytes.size() / 2);
  write_file(folder / "cut.jpg", bytes);
  ImageWindows picture({"", folder / "cut.jpg"}, 3, kDefaultMaxPixels);
  EXPECT_TRUE(test::contains(test::message_of<ImageError>([&] {
                               picture.read({{0, 71}, {0, 90}});
                             }),
                             "truncated JPEG: the data ends after"));
  write_file(folder / "empty.png", std::vector<std::uint8_t>{});
  EXPECT_EQ(test::message_of<ImageError>([&] {
              ImageWindows({"", folder / "empty.png"}, 3, 100);
            }),
            "empty file (0 bytes)");
  EXPECT_FALSE(reads_in_parts({"", folder / "empty.png"}));
}

}  // namespace
}  // namespace convae::test_windows
