#include "convae/tests/support.h"
#include "convae/training/image_list.h"
#include "convae/training/run_folder.h"

namespace convae::test_image_list {
namespace {

ImageList list_of(std::vector<std::string> training, std::vector<std::string> validation = {}) {
  ImageList list;
  list.training = std::move(training);
  list.validation = std::move(validation);
  return list;
}

TEST(ImageList, ChangesAreCountedWithTheirFirstNames) {
  const ImageList before = list_of({"a", "b", "c", "d", "e", "f"}, {"v", "w"});
  EXPECT_EQ(changes_between(before, before), "");
  EXPECT_EQ(changes_between(before, list_of({"a", "x", "f", "v"}, {"w"})),
            "1 added ('x'), 4 removed ('b', 'c', 'd' and 1 more), 1 moved between training and "
            "validation ('v')");
  // Training and validation folders may hold the same names.
  EXPECT_EQ(changes_between(list_of({"a"}, {"a"}), list_of({"a"})), "1 removed ('a')");
}

TEST(ImageList, DigestsDifferWithNamesOrderAndSide) {
  const std::vector<ImageList> lists = {
      list_of({"a", "b"}),     list_of({"b", "a"}), list_of({"a"}), list_of({"a"}, {"b"}),
      list_of({}, {"a", "b"}), list_of({"ab"}),     list_of({})};
  std::set<std::string> digests;
  for (const ImageList& list : lists) digests.insert(list.digest());
  EXPECT_EQ(digests.size(), lists.size());
  EXPECT_EQ(lists[0].digest(), list_of({"a", "b"}).digest());
  EXPECT_EQ(digests.begin()->size(), 16U);
}

TEST(ImageList, ReadsBackAsItWas) {
  const test::TemporaryFolder folder;
  for (const char* name : {"plain", "comma, and \"quote\"", "new\nline", "back\\slash"}) {
    test::write_image(folder / "data" / (std::string(name) + ".png"), test::noise(1, 2, 2, 1));
  }
  const ImageDataset images(test::entries_of(folder / "data"), {});
  const ImageList list(images, &images);
  EXPECT_EQ(list.training.size(), 4U);
  RunFolder run = RunFolder::create(folder.path(), "run");
  EXPECT_TRUE(run.read_images().training.empty());
  run.write_images(images, &images);
  const ImageList read = run.read_images();
  EXPECT_EQ(read.training, list.training);
  EXPECT_EQ(read.validation, list.validation);
  EXPECT_EQ(read.digest(), list.digest());
  EXPECT_EQ(image_digest(images, &images), list.digest());
  EXPECT_NE(image_digest(images, nullptr), list.digest());
}

}  // namespace
}  // namespace convae::test_image_list
