#include "convae/data/image_entries.h"
#include "convae/tests/support.h"

namespace convae::test_image_files {
namespace {

using Names = std::vector<std::string>;

Names names_of(const ImageFiles& files) {
  Names names;
  for (const ImageFile& file : files) names.push_back(file.name);
  return names;
}

ImageFiles three_files() {
  ImageFiles files;
  const std::uint32_t folder = files.add_source("/data/in", /*prefix_size=*/5);
  const std::uint32_t shard = files.add_source("/data/x.tar", 0);
  files.add("test/b.png", folder);
  files.add("c.png", shard, 512, 7);
  files.add("test/a.png", folder);
  return files;
}

TEST(ImageFiles, KnowWhereEachIs) {
  const ImageFiles files = three_files();
  EXPECT_EQ(files[0].path, "/data/in/b.png");
  EXPECT_FALSE(files[0].is_in_shard());
  EXPECT_EQ(files[1].path, "/data/x.tar");
  EXPECT_EQ(files[1].name, "c.png");
  EXPECT_EQ(files[1].offset, 512);
  EXPECT_EQ(files[1].size, 7);
  EXPECT_TRUE(files.is_in_shard(1));
  ImageFiles own;
  own.add({"shown/as.png", "/else/where.png", 100, 1});
  EXPECT_EQ(own[0].path, "/else/where.png");
  EXPECT_EQ(own[0].size, 1);
}

TEST(ImageFiles, AreSortedByteByByteAndKeepTheirPlaces) {
  ImageFiles files = three_files();
  files.add("c.png", 1, 1024, 8);
  files.sort();
  EXPECT_EQ(names_of(files), (Names{"c.png", "c.png", "test/a.png", "test/b.png"}));
  EXPECT_EQ(files[0].size, 7) << "those of one name stay in order";
  EXPECT_EQ(files[2].path, "/data/in/a.png");
}

TEST(ImageFiles, APartSharesTheNamesAndOutlivesTheRest) {
  ImageFiles taken;
  {
    ImageFiles files = three_files();
    taken = files.take_if([](std::size_t place) { return place != 1; });
    EXPECT_EQ(names_of(files), Names{"c.png"});
  }
  EXPECT_EQ(names_of(taken), (Names{"test/b.png", "test/a.png"}));
  EXPECT_EQ(taken[1].path, "/data/in/a.png");
}

TEST(ImageFiles, HoldNamesOfAnyLengthThatSystemsHave) {
  ImageFiles files;
  const std::uint32_t folder = files.add_source("/d", 0);
  Names names;
  for (std::size_t i = 0; i < 1000; ++i) {
    names.push_back(std::string(1 + i * 4, static_cast<char>('a' + i % 26)));
    files.add(names.back(), folder);
  }
  EXPECT_EQ(names_of(files), names);
  EXPECT_THROW(files.add(std::string(4097, 'a'), folder), std::length_error);
}

TEST(ImageEntries, SayAllThatHeadersSay) {
  ImageInfo info{.format = ImageFormat::webp,
                 .height = 70'000,
                 .width = 3,
                 .channels = 1,
                 .alpha = true,
                 .bits = 16,
                 .orientation = 6,
                 .pages = 1000,
                 .premultiplied = true,
                 .white_is_zero = true,
                 .remark = "odd"};
  ImageEntries entries({{{"a", "/a"}, info}, {{"b", "/b"}, {}}, {{"c", "/c"}, info}});
  EXPECT_EQ(entries[2].info, info);
  EXPECT_EQ(entries[2].file_size(), (Size{70'000, 3}));
  EXPECT_EQ(entries[1].info, ImageInfo{});
  const ImageEntries taken = entries.take_if([](std::size_t place) { return place == 2; });
  EXPECT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].info.remark, "odd");
  EXPECT_EQ(taken.name(0), "c");
  EXPECT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries.infos().size(1), Size{});
}

}  // namespace
}  // namespace convae::test_image_files
