// Fixtures and the pixels expected of them come from make_fixtures.py: from the arrays that were
// written where the format is lossless, from Pillow where it is not.

#include "convae/data/image_io.h"
#include "convae/tests/support.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>

namespace convae::test_image_io {
namespace {

using test::contains;
using test::difference;
using test::fixture;
using Bytes = std::vector<std::uint8_t>;

struct Fixture {
  std::string name, format;
  std::int64_t height, width;
  int channels, alpha, bits, orientation, pages, tolerance;
  std::size_t offset;  // in the file of expected pixels
};

void PrintTo(const Fixture& fixture, std::ostream* out) { *out << fixture.name; }

std::vector<Fixture> fixtures() {
  std::ifstream lines(fixture("manifest"));
  std::vector<Fixture> all;
  for (Fixture f; lines >> f.name >> f.format >> f.height >> f.width >> f.channels >> f.alpha >>
                  f.bits >> f.orientation >> f.pages >> f.tolerance >> f.offset;) {
    all.push_back(f);
  }
  return all;
}

std::vector<std::pair<std::string, std::string>> refused() {
  std::ifstream lines(fixture("refused"));
  std::vector<std::pair<std::string, std::string>> all;
  for (std::string name, reason; std::getline(lines, name, '\t') && std::getline(lines, reason);) {
    all.emplace_back(name, reason);
  }
  return all;
}

Bytes load(const std::string& name) { return read_file(fixture(name)); }

/// (C, H, W).
torch::Tensor expected_pixels(const Fixture& f) {
  static const Bytes all = load("expected");
  const auto type = f.bits == 32 ? torch::kFloat : f.bits == 16 ? torch::kUInt16 : torch::kUInt8;
  const torch::Tensor rows = torch::empty({f.height, f.width, f.channels}, type);
  std::memcpy(rows.data_ptr(), &all.at(f.offset), rows.nbytes());
  return rows.permute({2, 0, 1});
}

std::string reason_of(std::span<const std::uint8_t> bytes) {
  return test::message_of<ImageError>([&] { decode_image(bytes, 3); });
}

TEST(ImageFixtures, AreThere) {
  EXPECT_GE(fixtures().size(), 100u) << "run tests/data/make_fixtures.py";
  EXPECT_GE(refused().size(), 25u);
}

class Decoding : public testing::TestWithParam<Fixture> {};

TEST_P(Decoding, GivesTheExpectedPixels) {
  const auto& f = GetParam();
  const auto image = decode_image(load(f.name), f.channels);
  EXPECT_EQ(image.scalar_type(), expected_pixels(f).scalar_type());
  EXPECT_EQ(image.strides(), (std::vector<std::int64_t>{1, f.width * f.channels, f.channels}));
  EXPECT_LE(difference(image, expected_pixels(f)), f.tolerance);
}

TEST_P(Decoding, ConvertsToTheChannelsAskedFor) {
  const auto& f = GetParam();
  const auto from = expected_pixels(f).to(torch::kFloat64);
  const auto image = decode_image(load(f.name), f.channels == 3 ? 1 : 3);
  EXPECT_EQ(image.size(0), f.channels == 3 ? 1 : 3);
  if (f.channels == 1) {
    EXPECT_LE(difference(image, from.expand({3, f.height, f.width})), f.tolerance);
    return;
  }
  const auto grey = 0.299 * from[0] + 0.587 * from[1] + 0.114 * from[2];
  // JPEG's grey is rounded before RGB is.
  EXPECT_LE(difference(image, grey.unsqueeze(0)), 0.5 + 1e-6 + 2 * f.tolerance);
}

TEST_P(Decoding, AgreesWithTheProbe) {
  const auto& f = GetParam();
  const auto info = probe_image(load(f.name));
  EXPECT_EQ(to_string(info.format), f.format);
  EXPECT_EQ(info.height, f.height);
  EXPECT_EQ(info.width, f.width);
  EXPECT_EQ(info.channels, f.channels);
  EXPECT_EQ(info.alpha, f.alpha != 0);
  EXPECT_EQ(info.bits, f.bits);
  EXPECT_EQ(info.orientation, f.orientation);
  EXPECT_EQ(info.pages, f.pages);
}

TEST_P(Decoding, HoldsToTheLimitOfPixels) {
  const auto& f = GetParam();
  const auto bytes = load(f.name);
  const auto pixels = f.height * f.width;
  EXPECT_NO_THROW(decode_image(bytes, 3, pixels));
  EXPECT_THROW(decode_image(bytes, 3, pixels - 1), ImageError);
  EXPECT_THROW(probe_image(bytes, pixels - 1), ImageError);
}

// A cut file is refused, or nothing that matters was cut (bytes after the end, padding).
TEST_P(Decoding, RefusesEveryCutOrGivesAllPixels) {
  const auto& f = GetParam();
  const auto bytes = load(f.name);
  const auto whole = decode_image(bytes, f.channels);
  int decoded = 0;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // A copy of its own, so that the sanitizer sees a read beyond the end.
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    try {
      const auto image = decode_image(cut, f.channels);
      ++decoded;
      ASSERT_EQ(difference(image, whole), 0) << "cut to " << size;
    } catch (const ImageError& error) {
      ASSERT_FALSE(std::string(error.what()).empty());
    }
  }
  if (f.format == "png" || f.format == "webp") {
    EXPECT_EQ(decoded, 0);
  }
}

// Damage may go unseen where a format has no checksum; it may never crash, hang or lie about
// the sides.
TEST_P(Decoding, SurvivesDamage) {
  const auto& f = GetParam();
  const auto bytes = load(f.name);
  const auto whole = decode_image(bytes, f.channels);
  std::mt19937 random(12345);
  for (int round = 0; round < 90; ++round) {
    auto damaged = bytes;
    const int changes = round % 4 == 3 ? 8 : 1;
    for (int i = 0; i < changes; ++i) {
      // Headers are where a change does most.
      const auto reach = round % 2 == 0 ? std::min<std::size_t>(bytes.size(), 128) : bytes.size();
      damaged[random() % reach] = static_cast<std::uint8_t>(random());
    }
    try {
      const auto image = decode_image(damaged, f.channels, /*max_pixels=*/10'000'000);
      const auto info = probe_image(damaged, /*max_pixels=*/10'000'000);
      EXPECT_EQ(image.size(1), info.height);
      EXPECT_EQ(image.size(2), info.width);
      if (f.format == "png") {
        ASSERT_EQ(difference(image, whole), 0) << "round " << round;
      }
    } catch (const ImageError&) {
    }
  }
}

std::string name_of(const testing::TestParamInfo<Fixture>& info) {
  auto name = info.param.name;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); },
      '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Decoding, testing::ValuesIn(fixtures()), name_of);

TEST(Refusing, NamesTheReason) {
  for (const auto& [name, reason] : refused()) {
    const std::string got = reason_of(load(name));
    EXPECT_TRUE(contains(got, reason)) << name << ": " << reason << ", but got " << got;
  }
}

/// A TIFF of 300 bytes, whatever its tags say. Its samples lie together (1) or in planes (2).
Bytes small_tiff(std::uint32_t width, std::uint32_t height, std::uint32_t samples,
                 std::uint32_t planes, const std::string& note, std::uint32_t photometric = 1) {
  const std::uint32_t entries[][2] = {
      {256, width}, {257, height},  {258, 8},      {259, 1},  {262, photometric}, {270, 220},
      {273, 200},   {277, samples}, {278, height}, {279, 10}, {284, planes}};
  Bytes tiff{'I', 'I', '*', 0, 8, 0, 0, 0, std::size(entries), 0};
  const auto add = [&](std::size_t value, int count) {
    for (int i = 0; i < count; ++i) tiff.push_back(static_cast<std::uint8_t>(value >> 8 * i));
  };
  for (const auto& [tag, value] : entries) {
    add(tag, 2);
    add(tag == 270 ? 2 : 4, 2);  // text or LONG
    add(tag == 270 ? note.size() + 1 : 1, 4);
    add(value, 4);
  }
  tiff.resize(300);
  std::ranges::copy(note, tiff.begin() + 220);
  return tiff;
}

TEST(Refusing, SaysWhenATiffHasTooManySamplesToReadARow) {
  const Bytes tiff = small_tiff(1'000'000, 1, 3000, 1, "a note");
  EXPECT_THROW(probe_image(tiff), ImageError);
  EXPECT_TRUE(contains(reason_of(tiff), "3000 samples a pixel")) << reason_of(tiff);
}

TEST(Refusing, SaysWhenATiffHasLostItsPalette) {
  Bytes tiff = load("palette.tif");
  const Bytes tag{0x40, 1, 3, 0, 0, 3, 0, 0};  // ColorMap, 768 SHORTs, of which follows the place
  const auto place = std::ranges::search(tiff, tag).end();
  ASSERT_NE(place, tiff.end());
  std::fill_n(place, 4, 0x7F);  // beyond the end
  EXPECT_EQ(reason_of(tiff), "damaged TIFF: a palette image without a palette");
}

TEST(Refusing, ReadsThreeSamplesThatATiffCallsIndicesAsRgb) {
  const Bytes named = small_tiff(2, 2, 3, 1, "a note", 3),
              plain = small_tiff(2, 2, 3, 1, "a note", 2);
  EXPECT_TRUE(torch::equal(decode_image(named, 3), decode_image(plain, 3)));
}

TEST(Refusing, SaysWhenAFileIsEmpty) {
  EXPECT_EQ(reason_of({}), "empty file (0 bytes)");
  EXPECT_THROW(probe_image({}), ImageError);
}

TEST(Refusing, ShowsTheFirstBytesOfWhatItDoesNotKnow) {
  EXPECT_EQ(reason_of(Bytes{1, 2, 255}), "not an image: starts with bytes 01 02 ff");
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\n";
  EXPECT_TRUE(contains(reason_of(Bytes(pointer.begin(), pointer.end())), "git lfs pull"));
}

TEST(Refusing, PngWithZerosForChunks) {
  Bytes png = encode_image(test::noise(3, 5, 7, 1), ImageFormat::png);
  png.resize(33);  // signature and header
  png.resize(1000);
  EXPECT_TRUE(reason_of(png).starts_with("damaged PNG: ")) << reason_of(png);
}

/// ISO 3309, bit by bit.
std::uint32_t checksum(std::span<const std::uint8_t> bytes) {
  std::uint32_t sum = ~0U;
  for (const std::uint8_t byte : bytes) {
    sum ^= byte;
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320U : 0);
  }
  return ~sum;
}

/// A PNG with a chunk of notes after its header.
Bytes with_note(const Bytes& png, const std::string& type, std::size_t length) {
  Bytes whole(png.begin(), png.begin() + 33);
  const auto append = [&](std::size_t number) {
    for (int i = 3; i >= 0; --i) whole.push_back(static_cast<std::uint8_t>(number >> (8 * i)));
  };
  append(length);
  whole.insert(whole.end(), type.begin(), type.end());
  whole.insert(whole.end(), length, 'x');
  append(checksum({whole.data() + 37, length + 4}));
  whole.insert(whole.end(), png.begin() + 33, png.end());
  return whole;
}

TEST(Notes, OfAnyLengthDoNotMatterToAPng) {
  const auto image = test::noise(3, 5, 7, 1);
  const auto png = encode_image(image, ImageFormat::png);
  for (const auto& [type, length] :
       {std::pair{"iTXt", std::size_t{20} << 20}, {"zTXt", 1}, {"iCCP", 3}, {"eXIf", 0}}) {
    const auto whole = with_note(png, type, length);
    EXPECT_EQ(probe_image(whole).orientation, 1);
    EXPECT_TRUE(test::identical(decode_image(whole, 3), image)) << type;
  }
}

TEST(Notes, OfAnAnimationGiveTheNumberOfItsPictures) {
  const auto png = encode_image(test::noise(3, 5, 7, 1), ImageFormat::png);
  EXPECT_EQ(probe_image(png).pages, 1);
  EXPECT_EQ(probe_image(with_note(png, "acTL", 8)).pages, kMaxPages);  // 0x78787878
}

TEST(Notes, OfAStackMayStandInATiffOfMoreSamplesThan64BitsCount) {
  const Bytes tiff = small_tiff(1 << 30, 1 << 30, 16, 2, "{\"shape\": [2, 3]}");
  EXPECT_EQ(probe_image(tiff, kAnyArea).pages, 1);
}

TEST(Notes, OfTheNextPageMayLeadBeyondAllOfATiff) {
  const Bytes tiff = load("rgb8_bigtiff.tif");
  const auto number_at = [&](std::size_t at) {
    std::uint64_t number = 0;
    std::memcpy(&number, &tiff.at(at), sizeof number);
    return number;
  };
  const std::size_t directory = number_at(8), link = directory + 8 + 20 * number_at(directory);
  Bytes framed{1, 0, 0, 0, 0, 0, 0, 0};  // a directory of one tag, if it were one
  framed.insert(framed.end(), tiff.begin(), tiff.end());
  const std::int64_t back = -8;
  std::memcpy(&framed.at(8 + link), &back, sizeof back);
  EXPECT_EQ(probe_image(std::span(framed).subspan(8)).pages, 1);
}

TEST(Remarks, SayWhatOfATiffIsNotRead) {
  EXPECT_EQ(probe_image(load("five_samples.tif")).remark, "only 3 of its 5 channels are read");
  EXPECT_EQ(probe_image(load("padding.tif")).remark, "only 3 of its 4 channels are read");
  EXPECT_TRUE(contains(probe_image(load("straight_alpha.tif")).remark, "infrared"));
  EXPECT_EQ(probe_image(load("float_alpha.tif")).remark, "only 1 of its 2 channels is read");
  EXPECT_EQ(probe_image(load("preview.tif")).remark, "only a preview of another picture is in it");
  for (const char* plain : {"rgb8.tif", "premultiplied.tif", "rgb16_min_is_black.tif"}) {
    EXPECT_EQ(probe_image(load(plain)).remark, "") << plain;
  }
}

/// A picture without detail: what is decoded smaller must look like what is resized.
torch::Tensor smooth_picture(std::int64_t height, std::int64_t width) {
  const torch::Tensor y = torch::linspace(0, 3, height).view({1, -1, 1});
  const torch::Tensor x = torch::linspace(0, 4, width).view({1, 1, -1});
  const torch::Tensor shift = torch::arange(3).view({-1, 1, 1});
  return ((torch::sin(y + shift) * torch::cos(x) + 1) * 127).to(torch::kByte);
}

TEST(ReducedDecoding, GivesTheSmallerPictureAtSidesRoundedUp) {
  for (const auto& [height, width] : {std::pair{487, 650}, {64, 64}, {9, 33}, {8, 1}}) {
    const auto bytes = encode_image(smooth_picture(height, width), ImageFormat::jpeg);
    const torch::Tensor whole = decode_image(bytes, 3);
    for (const int reduction : {0, -1, 3, 16}) {
      EXPECT_THROW(decode_image(bytes, 3, kDefaultMaxPixels, reduction), std::invalid_argument);
    }
    for (const int reduction : {1, 2, 4, 8}) {
      const torch::Tensor reduced = decode_image(bytes, 3, kDefaultMaxPixels, reduction);
      ASSERT_EQ(reduced.size(1), (height + reduction - 1) / reduction);
      ASSERT_EQ(reduced.size(2), (width + reduction - 1) / reduction);
      if (height < 64) continue;  // the last block is filled up beyond the edge
      const torch::Tensor resized = resize_image(whole, reduced.size(1), reduced.size(2));
      const torch::Tensor change = (reduced.to(torch::kFloat) - resized.to(torch::kFloat)).abs();
      EXPECT_LT(change.mean().item<double>(), 1.0) << height << " / " << reduction;
    }
  }
}

TEST(ReducedDecoding, KeepsTwiceTheSizeThatIsWanted) {
  ImageInfo info;
  info.format = ImageFormat::jpeg;
  info.height = 480;
  info.width = 640;
  EXPECT_EQ(decoding_reduction(info, {240, 240}), 1);
  EXPECT_EQ(decoding_reduction(info, {120, 160}), 2);
  EXPECT_EQ(decoding_reduction(info, {121, 160}), 1);
  EXPECT_EQ(decoding_reduction(info, {60, 80}), 4);
  EXPECT_EQ(decoding_reduction(info, {3, 3}), 8);
  info.format = ImageFormat::png;
  EXPECT_EQ(decoding_reduction(info, {3, 3}), 1);
}

TEST(ReducedDecoding, RefusesCutFilesAndOtherFormats) {
  const auto jpeg = encode_image(test::noise(3, 120, 96, 1), ImageFormat::jpeg);
  for (std::size_t length = 0; length < jpeg.size(); length += 1 + jpeg.size() / 97) {
    EXPECT_THROW(decode_image({jpeg.data(), length}, 3, kDefaultMaxPixels, 4), ImageError);
  }
  const auto png = encode_image(test::noise(3, 32, 32, 1), ImageFormat::png);
  EXPECT_THROW(decode_image(png, 3, kDefaultMaxPixels, 2), ImageError);
}

TEST(Refusing, SaysHowManyRowsOfAJpegAreThere) {
  const auto whole = encode_image(test::noise(3, 120, 16, 1), ImageFormat::jpeg);
  const std::span half(whole.data(), whole.size() / 2);
  const auto reason = reason_of(half);
  EXPECT_TRUE(reason.starts_with("truncated JPEG: the data ends after ")) << reason;
  EXPECT_TRUE(reason.ends_with(" of 120 rows")) << reason;
}

TEST(Refusing, NeverTakesDamagedEntropyDataForPixels) {
  auto bytes = encode_image(test::noise(3, 64, 64, 1), ImageFormat::jpeg);
  // A marker in the middle of the data, as an interrupted transfer leaves it.
  bytes[bytes.size() / 2] = 0xFF;
  bytes[bytes.size() / 2 + 1] = 0xD9;
  EXPECT_TRUE(reason_of(bytes).starts_with("truncated JPEG")) << reason_of(bytes);
}

// Scans of a few bytes that each walk over every coefficient of a large picture.
TEST(Refusing, StopsAtAProgressiveBomb) {
  Bytes bytes = {0xFF, 0xD8};
  const auto append = [&](std::initializer_list<int> values) {
    for (const int value : values) bytes.push_back(static_cast<std::uint8_t>(value));
  };
  append({0xFF, 0xC2, 0, 11, 8, 0xF0, 0, 0x06, 0x30, 1, 1, 0x11, 0});  // 61440 rows of 1584
  append({0xFF, 0xDB, 0, 67, 0});
  bytes.insert(bytes.end(), 64, 1);
  const auto append_code = [&](int table, int symbol) {  // the only one: a single 0 bit
    append({0xFF, 0xC4, 0, 20, table, 1});
    bytes.insert(bytes.end(), 15, 0);
    append({symbol});
  };
  append_code(/*table=*/0x00, /*symbol=*/0);     // first coefficient: no difference
  append_code(/*table=*/0x10, /*symbol=*/0xE0);  // others: nothing in the next 2^14 blocks
  const std::size_t blocks = (61440 / 8) * (1584 / 8);
  append({0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0});
  bytes.insert(bytes.end(), blocks / 8, 0);
  for (int scan = 0; scan < 5000; ++scan) {
    append({0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 63, 0});
    bytes.insert(bytes.end(), (blocks / (1 << 14) + 1) * 15 / 8 + 1, 0);
  }
  append({0xFF, 0xD9});
  const auto start = std::chrono::steady_clock::now();
  const auto reason = reason_of(bytes);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(contains(reason, "scans")) << reason;
  EXPECT_LT(seconds.count(), 4);  // about 1 s; the rest for a sanitizer and a busy machine
}

TEST(Refusing, ChecksItsArguments) {
  EXPECT_THROW(decode_image(load("rgb8.png"), 2), std::invalid_argument);
  EXPECT_THROW(resize_image(torch::zeros({3, 3, 3}, torch::kUInt8), 0, 5), std::invalid_argument);
}

}  // namespace
}  // namespace convae::test_image_io
