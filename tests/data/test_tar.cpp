#include "convae/data/shards.h"
#include "convae/data/tar.h"
#include "convae/tests/support.h"

#include <fmt/format.h>

#include <algorithm>

namespace convae::test_tar {
namespace {

using test::contains;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;
using Kind = TarMember::Kind;

/// A header as POSIX lays it out; archives of Python and tar are read in tests/cli/test_shards.py.
struct Header {
  std::string name = "a.png";
  std::int64_t size = 0;
  char type = '0';
  std::string magic = std::string("ustar\0", 6) + "00";
  std::string prefix = {};
  std::string own_size = {};  // in place of octal digits
  bool goes_on = false;       // GNU's old sparse map
  bool signed_sum = false;

  std::string text() const {
    std::string block(512, '\0');
    const auto put = [&](std::size_t at, const std::string& what) {
      std::copy(what.begin(), what.end(), block.begin() + static_cast<std::ptrdiff_t>(at));
    };
    put(0, name);
    put(124, own_size.empty() ? fmt::format("{:011o}", size) : own_size);
    put(148, "        ");
    put(156, std::string(1, type));
    put(257, magic);
    put(345, prefix);
    if (goes_on) block[482] = 1;
    int sum = 0;
    for (const char c : block) {
      sum += signed_sum ? static_cast<signed char>(c) : static_cast<unsigned char>(c);
    }
    put(148, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    return block;
  }
};

std::string padded(std::string content) {
  content.resize((content.size() + 511) / 512 * 512);
  return content;
}

std::string pax_record(const std::string& key, const std::string& value) {
  const std::string rest = " " + key + "=" + value + "\n";
  std::size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

const std::string kEnd(1024, '\0');

class TarTest : public testing::Test {
protected:
  TarContents read(const std::string& archive) {
    write_text(path_, archive);
    return read_tar(InputFile(path_));
  }
  std::string refusal(const std::string& archive) {
    return message_of<std::runtime_error>([&] { read(archive); });
  }
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "x.tar";
};

TEST_F(TarTest, SaysWhereTheBytesOfAMemberAre) {
  const TarContents found =
      read(Header{.size = 5}.text() + padded("12345") + Header{.name = "b", .size = 0}.text() +
           Header{.name = "c", .size = 512}.text() + padded("6789") + kEnd);
  EXPECT_EQ(found.damage, "");
  ASSERT_EQ(found.members.size(), 3U);
  EXPECT_EQ(found.members[0].name, "a.png");
  EXPECT_EQ(found.members[0].offset, 512);
  EXPECT_EQ(found.members[0].size, 5);
  EXPECT_EQ(found.members[2].offset, 512 * 4);
  InputFile part(path_);
  part.narrow(found.members[0].offset, found.members[0].size);
  const auto bytes = read_file(part);
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "12345");
  EXPECT_THROW(part.narrow(3, 3), std::runtime_error);
}

TEST_F(TarTest, NamesAreThoseOfEachFormat) {
  const std::string long_name(300, 'n');
  const std::string gnu_magic = "ustar  ";
  const TarContents found =
      read(Header{.name = "b", .prefix = "deep/er"}.text() +
           Header{.name = "b", .magic = gnu_magic, .prefix = "7654321"}.text() +
           Header{.name = "old", .magic = ""}.text() +
           Header{.name = std::string(100, 'f'), .prefix = std::string(155, 'p')}.text() +
           Header{.name = "././@LongLink", .size = 301, .type = 'L', .magic = gnu_magic}.text() +
           padded(long_name) + Header{.name = long_name.substr(0, 100), .magic = gnu_magic}.text() +
           Header{.name = "pax", .size = 19, .type = 'x'}.text() +
           padded(pax_record("path", "longer/pax")) + Header{.name = "short"}.text() +
           Header{.name = "after"}.text() + kEnd);
  std::vector<std::string> names;
  for (const TarMember& member : found.members) names.push_back(member.name);
  EXPECT_EQ(names, (std::vector<std::string>{"deep/er/b", "b", "old",
                                             std::string(155, 'p') + "/" + std::string(100, 'f'),
                                             long_name, "longer/pax", "after"}));
}

TEST_F(TarTest, LargeSizesAreInBinaryOrInPaxRecords) {
  const std::string binary = "\x80" + std::string(9, '\0') + "\x02\x01";  // 513
  const std::string record = pax_record("size", "700");
  const TarContents found =
      read(Header{.own_size = binary}.text() + std::string(1024, 'x') +
           Header{.name = "pax", .size = std::ssize(record), .type = 'x'}.text() + padded(record) +
           Header{.name = "b"}.text() + std::string(1024, 'y') + Header{.name = "c"}.text() + kEnd);
  ASSERT_EQ(found.members.size(), 3U);
  EXPECT_EQ(found.members[0].size, 513);
  EXPECT_EQ(found.members[1].size, 700);
  EXPECT_EQ(found.members[2].name, "c");
  const std::string huge = "\x80" + std::string(3, '\0') + std::string(8, '\x7f');
  EXPECT_TRUE(contains(read(Header{.own_size = huge}.text() + kEnd).damage, "cut within 'a.png'"));
}

TEST_F(TarTest, KindsOfMembers) {
  const auto kind_of = [&](const Header& header, const std::string& content = "") {
    const TarContents found = read(header.text() + content + Header{.name = "next"}.text() + kEnd);
    EXPECT_EQ(found.damage, "");
    EXPECT_EQ(found.members.back().name, "next") << header.type;
    return found.members.at(0).kind;
  };
  EXPECT_EQ(kind_of({.type = '\0'}), Kind::file);
  EXPECT_EQ(kind_of({.type = '7'}), Kind::file);
  EXPECT_EQ(kind_of({.name = "folder/", .type = '\0'}), Kind::folder);
  EXPECT_EQ(kind_of({.type = '5'}), Kind::folder);
  EXPECT_EQ(kind_of({.size = 100, .type = '1'}), Kind::link) << "no bytes follow";
  EXPECT_EQ(kind_of({.type = '2'}), Kind::link);
  EXPECT_EQ(kind_of({.type = '3'}), Kind::other);
  EXPECT_EQ(kind_of({.type = '6'}), Kind::other);
  EXPECT_EQ(kind_of({.size = 3, .type = 'V'}, padded("abc")), Kind::other);
  std::string map(512, '\0'), last = map;
  map[504] = 1;  // one more follows
  EXPECT_EQ(kind_of({.size = 3, .type = 'S', .goes_on = true}, map + last + padded("abc")),
            Kind::sparse);
  EXPECT_EQ(kind_of({.name = "\xff\xff", .signed_sum = true}), Kind::file);
}

TEST_F(TarTest, JoinedArchivesAreReadAsOne) {
  const std::string one = Header{.name = "a", .size = 3}.text() + padded("abc") + kEnd;
  const std::string two = Header{.name = "b", .size = 2}.text() + padded("de") + kEnd;
  for (const std::size_t blocks : {0, 1, 20}) {  // that fill a record
    const TarContents found = read(one + std::string(512 * blocks, '\0') + two);
    ASSERT_EQ(found.members.size(), 2U) << blocks;
    EXPECT_EQ(found.members[1].name, "b");
    EXPECT_EQ(found.damage, "");
  }
  EXPECT_EQ(read(one + std::string(700, 'x')).members.size(), 1U) << "no archive follows";
  EXPECT_EQ(read(one + std::string(512, '\0')).damage, "");
}

TEST_F(TarTest, DamageEndsTheListAndIsNamed) {
  const std::string first = Header{.size = 3}.text() + padded("abc");
  const auto damage_after_one = [&](const std::string& rest) {
    const TarContents found = read(first + rest);
    EXPECT_EQ(found.members.size(), 1U) << rest;
    return found.damage;
  };
  EXPECT_EQ(damage_after_one(""), "it has no end mark at byte 1024");
  EXPECT_EQ(damage_after_one("abc"), "it is cut within a header at byte 1024");
  EXPECT_EQ(damage_after_one(Header{.name = "b", .size = 4}.text() + "123"),
            "it is cut within 'b' at byte 1536");
  EXPECT_EQ(damage_after_one(std::string(512, 'x') + kEnd),
            "there is no header of a member at byte 1024");
  const std::string record = "99 path=b\n";
  for (const std::string& records : {record, std::string("x"), std::string("10 path b\n"),
                                     pax_record("size", "-1"), pax_record("size", "1e3")}) {
    EXPECT_TRUE(contains(
        damage_after_one(Header{.size = std::ssize(records), .type = 'x'}.text() + padded(records)),
        "damaged pax records"))
        << records;
  }
  EXPECT_TRUE(contains(damage_after_one(Header{.size = 1 << 30, .type = 'L'}.text()),
                       "no header of a member"));
  EXPECT_EQ(read(first + std::string(512, '\0')).damage, "") << "a short end mark is one";
}

TEST_F(TarTest, WhatIsNoTarIsRefused) {
  EXPECT_EQ(refusal("words"), "not a tar archive");
  EXPECT_EQ(refusal(""), "not a tar archive");
  EXPECT_EQ(refusal(std::string(2000, 'x')), "not a tar archive");
  EXPECT_TRUE(contains(refusal("\x1f\x8b and so on"), "compressed (gzip)"));
  EXPECT_TRUE(contains(refusal("\x28\xb5\x2f\xfd and so on"), "zstd -d"));
}

TEST_F(TarTest, AFirstNameThatBeginsLikeACompressedFileIsRead) {
  for (const char* name : {"BZhang_00.png", "LZIP.png"}) {
    const TarContents found = read(Header{.name = name, .size = 3}.text() + padded("abc") + kEnd);
    ASSERT_EQ(found.members.size(), 1U) << name;
    EXPECT_EQ(found.members[0].name, name);
  }
}

TEST_F(TarTest, AMemberOfAChangedShardIsNotRead) {
  read(Header{.size = 5}.text() + padded("12345") + kEnd);
  const ImageFile image{"a.png", path_, 512, 5};
  EXPECT_EQ(read_file(open_image(image)).size(), 5U);
  write_text(path_, Header{.size = 6}.text() + padded("123456") + kEnd);
  const auto refusal = [&] { return message_of<std::runtime_error>([&] { open_image(image); }); };
  EXPECT_TRUE(contains(refusal(), "changed since it was listed"));
  write_text(path_, Header{.name = "b.png", .size = 5}.text() + padded("12345") + kEnd);
  EXPECT_TRUE(contains(refusal(), "changed since it was listed")) << "another of the same size";
  write_text(path_, std::string(2048, 'x'));
  EXPECT_TRUE(contains(refusal(), "changed since it was listed"));
  write_text(path_, Header{.size = 5}.text() + "12");
  EXPECT_TRUE(contains(refusal(), "it ends at byte 514"));
}

TEST_F(TarTest, AMemberWhoseSizeIsInPaxRecordsAloneIsRead) {
  const auto archive = [](const std::string& size) {
    const std::string record = pax_record("path", "b.png") + pax_record("size", size);
    return Header{.name = "pax", .size = std::ssize(record), .type = 'x'}.text() + padded(record) +
           Header{.name = "b"}.text() + std::string(1024, 'y') + kEnd;
  };
  const TarContents found = read(archive("700"));
  ASSERT_EQ(found.members.size(), 1U);
  const ImageFile image{"b.png", path_, found.members[0].offset, found.members[0].size};
  EXPECT_EQ(read_file(open_image(image)).size(), 700U);
  for (const std::string& changed :
       {archive("701"), std::string(1024, 'x') + Header{}.text() + std::string(1024, 'y') + kEnd}) {
    write_text(path_, changed);
    EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { open_image(image); }),
                         "changed since it was listed"));
  }
}

TEST(ShardNames, RangesCountWithTheWidthTheyAreWrittenWith) {
  const auto named = [](const std::string& data) {
    std::vector<std::string> names;
    for (const auto& path : shards_named(data)) names.push_back(path.string());
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(named("x{8..11}.tar"), (Names{"x8.tar", "x9.tar", "x10.tar", "x11.tar"}));
  EXPECT_EQ(named("x{008..010}.tar"), (Names{"x008.tar", "x009.tar", "x010.tar"}));
  EXPECT_EQ(named("d{1..2}/x{0..1}.tar"),
            (Names{"d1/x0.tar", "d1/x1.tar", "d2/x0.tar", "d2/x1.tar"}));
  EXPECT_EQ(named("{a..b}{1..1}.tar"), Names{"{a..b}1.tar"});
  EXPECT_EQ(named("x{9223372036854775807..9223372036854775807}.tar"),
            Names{"x9223372036854775807.tar"});
  for (const char* other : {"nothing.tar", "x{a,b}.tar", "x{1..}.tar", "x{-1..2}.tar", "."}) {
    EXPECT_EQ(named(other), Names{}) << other;
  }
  EXPECT_TRUE(contains(message_of<OptionError>([&] { named("x{2..1}.tar"); }), "counts up"));
  EXPECT_THROW(named("x{0..999999999}.tar"), OptionError);
  EXPECT_THROW(named("x{0..9999}{0..9999}.tar"), OptionError);
  EXPECT_THROW(named("x{0..9223372036854775807}.tar"), OptionError);
}

TEST(ShardNames, WhatIsTakenForAShard) {
  for (const char* name : {"x.tar", "X.TAR", "x.tgz", "x.tar.gz", "x.tar.zst", "a.b.tar.xz"}) {
    EXPECT_TRUE(is_shard_name(name)) << name;
  }
  for (const char* name : {"x.gz", "tar", "x.tar.d/a.png", "x.tart"}) {
    EXPECT_FALSE(is_shard_name(name)) << name;
  }
}

}  // namespace
}  // namespace convae::test_tar
