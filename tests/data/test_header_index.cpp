#include "convae/core/digest.h"
#include "convae/data/dataset.h"
#include "convae/data/header_bytes.h"
#include "convae/data/header_index.h"
#include "convae/tests/support.h"

namespace convae::test_header_index {
namespace {

namespace fs = std::filesystem;
using test::contents;
using test::noise;
using test::TemporaryFolder;
using test::write_image;
using test::write_text;

TEST(HeaderBytes, AFewKilobytesOfALargeFileSayWhatAllOfItSays) {
  TemporaryFolder folder;
  const torch::Tensor deep = test::deep_noise(3, 300, 401, 1);
  for (const ImageFormat format : {ImageFormat::png, ImageFormat::jpeg, ImageFormat::tiff,
                                   ImageFormat::bmp, ImageFormat::webp}) {
    const fs::path path = folder / to_string(format);
    write_image(path, deep, format);
    const HeaderBytes header({"", path});
    ASSERT_EQ(header.bytes().size(), fs::file_size(path)) << to_string(format);
    EXPECT_LE(header.bytes_read(), 20'000) << to_string(format);
    EXPECT_EQ(probe_image(header.bytes()), probe_image(read_file(path))) << to_string(format);
  }
}

TEST(HeaderBytes, AFileThatEndsEarlyIsReadWhole) {
  TemporaryFolder folder;
  write_image(folder / "a.png", noise(3, 300, 401, 1));
  fs::resize_file(folder / "a.png", fs::file_size(folder / "a.png") - 5);
  EXPECT_TRUE(HeaderBytes({"", folder / "a.png"}).bytes().empty());
  const FoundImages scan = scan_headers(list_images(folder.path()), kDefaultMaxPixels, 0);
  ASSERT_EQ(scan.skipped.size(), 1U);
  EXPECT_EQ(scan.skipped[0].reason, "truncated PNG: the data ends early");
}

class HeaderIndexTest : public testing::Test {
protected:
  HeaderIndexTest() {
    write_image(data_ / "a.png", noise(3, 30, 40, 1));
    write_image(data_ / "sub/line\nbreak.jpg", noise(3, 31, 17, 2), ImageFormat::jpeg);
    write_image(data_ / "deep.tif", noise(1, 4, 5, 3).to(torch::kUInt16), ImageFormat::tiff);
  }

  FoundImages scan(const Globs& globs = {}) {
    return scan_headers(list_images(data_, globs), kDefaultMaxPixels, 0, index_.string());
  }

  void expect_kept(const ImageEntries& entries) {
    const HeaderIndex index(index_, data_);
    for (const ImageEntry& entry : entries) {
      const auto info = index.find(entry.file.name, HeaderIndex::stamp(entry.file.path));
      EXPECT_TRUE(info == entry.info) << entry.file.name;
    }
  }

  /// The same length and times, other contents: only what is kept can tell what it was.
  static void spoil(const fs::path& path) {
    const fs::file_time_type time = fs::last_write_time(path);
    {
      std::fstream file(path);
      file << "XXXXXXXX";
    }
    fs::last_write_time(path, time);
  }

  TemporaryFolder folder_;
  fs::path data_ = folder_ / "data", index_ = folder_ / ".index";
};

TEST_F(HeaderIndexTest, KeepsRemarksAndWhatACallDoesNotList) {
  write_text(data_ / "two.pgm", "P5 2 1 255\n12P5 2 1 255\n34");
  scan().keep_headers();
  write_image(data_ / "deep.tif", noise(1, 6, 5, 4).to(torch::kUInt16), ImageFormat::tiff);
  scan({{"deep.tif"}, {}}).keep_headers();
  const ImageEntries entries = scan().entries;
  ASSERT_EQ(entries.size(), 4U);
  expect_kept(entries);
  for (const ImageEntry& entry : entries) {
    EXPECT_EQ(entry.info.remark.empty(), entry.file.name != "two.pgm");
  }
}

TEST_F(HeaderIndexTest, KeepsHeadersWhereAnotherFileCannotBeLookedFor) {
  scan().keep_headers();
  fs::remove_all(data_ / "sub");
  fs::create_symlink("sub", data_ / "sub");  // leads to itself
  write_image(data_ / "new.png", noise(3, 30, 40, 1));
  const FoundImages found = scan();
  ASSERT_EQ(found.entries.size(), 3U);
  found.keep_headers();
  expect_kept(found.entries);
}

TEST_F(HeaderIndexTest, KeepsWhatHeadersSayOnlyWhereItIsAskedTo) {
  const FoundImages first = scan();
  EXPECT_FALSE(fs::exists(index_));
  first.keep_headers();
  ASSERT_EQ(first.entries.size(), 3U);
  expect_kept(first.entries);
}

TEST_F(HeaderIndexTest, AKnownFileIsNotReadAgain) {
  scan().keep_headers();
  const fs::path kept = fs::directory_iterator(index_)->path();
  // Says something that only the index can: a width.
  std::string text = contents(kept);
  const std::string size("\x1e\0\0\0\x28\0\0\0", 8), other("\x1e\0\0\0\x2c\0\0\0", 8);
  text.replace(text.find(size), size.size(), other);
  const std::size_t digest = text.find('\n') + 1, rest = text.find('\n', digest) + 1;
  text.replace(digest, rest - 1 - digest, digest_of(text.substr(rest)));
  write_text(kept, text);
  EXPECT_EQ(scan().entries[0].file_size(), (Size{30, 44}));
}

TEST_F(HeaderIndexTest, AChangedFileIsReadAgainAndALimitHoldsForKnownOnesToo) {
  scan().keep_headers();
  spoil(data_ / "a.png");  // the time of its inode changes
  const FoundImages changed = scan();
  ASSERT_EQ(changed.skipped.size(), 1U);
  EXPECT_EQ(changed.skipped[0].name, "a.png");
  const FoundImages small =
      scan_headers(list_images(data_), /*max_pixels=*/100, 0, index_.string());
  ASSERT_EQ(small.entries.size(), 1U);
  EXPECT_EQ(small.entries[0].file.name, "deep.tif");
  EXPECT_TRUE(test::contains(small.skipped.back().reason, "more than the limit of 100 pixels"));
}

TEST_F(HeaderIndexTest, ADamagedIndexAndAFolderThatCannotBeWrittenDoNoHarm) {
  scan().keep_headers();
  const fs::path kept = fs::directory_iterator(index_)->path();
  const std::string text = contents(kept);
  for (const std::string& damaged :
       {std::string(), std::string("other\n"), text.substr(0, text.size() / 2),
        text.substr(0, text.find('\n') + 1) + "99 x y\tz\n\n\t\n"}) {
    write_text(kept, damaged);
    EXPECT_EQ(scan().entries.size(), 3U);
  }
  fs::remove_all(index_);
  write_text(index_, "a file where the folder would be");
  EXPECT_NO_THROW(scan().keep_headers());
}

TEST_F(HeaderIndexTest, OneFlippedBitIsEnoughToReadAllHeadersAgain) {
  scan().keep_headers();
  const fs::path kept = fs::directory_iterator(index_)->path();
  const std::string text = contents(kept);
  const std::uint64_t stamp = HeaderIndex::stamp(data_ / "a.png");
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
    write_text(kept, damaged);
    ASSERT_FALSE(HeaderIndex(index_, data_).find("a.png", stamp)) << "byte " << i;
  }
  scan().keep_headers();
  EXPECT_EQ(contents(kept), text);
}

TEST_F(HeaderIndexTest, IsFoundBesideTheRunOfACheckpoint) {
  write_text(folder_ / "runs/a/config.toml", "");
  EXPECT_EQ(index_beside_run(folder_ / "runs/a/weights/best.safetensors"),
            (folder_ / "runs/.index").string());
  EXPECT_EQ(index_beside_run(folder_ / "elsewhere/best.safetensors"), "");
}

}  // namespace
}  // namespace convae::test_header_index
