#include "convae/inspection/test_set.h"
#include "convae/tests/support.h"

namespace convae::test_test_set {
namespace {

using test::TemporaryFolder;

void touch(const std::filesystem::path& path) { test::write_text(path, "x"); }

TEST(InspectionFolder, KnowsTheLayout) {
  const TemporaryFolder folder;
  touch(folder / "train/good/0.png");
  touch(folder / "test/good/1.png");
  touch(folder / "test/crack/2.png");
  touch(folder / "ground_truth/crack/2_mask.png");
  const InspectionFolder set(folder.path());
  EXPECT_TRUE(set.labelled);
  EXPECT_EQ(set.images, folder / "test");
  EXPECT_EQ(set.prefix, "test/");
  EXPECT_EQ(set.label("test/good/1.png"), "good");
  EXPECT_EQ(set.label("test/crack/deeper/2.png"), "crack");
  EXPECT_EQ(set.label("test/stray.png"), "");
  EXPECT_EQ(set.mask("test/crack/2.png"), folder / "ground_truth/crack/2_mask.png");
  EXPECT_EQ(set.mask("test/crack/3.png"), std::nullopt);
  EXPECT_EQ(set.mask("test/good/1.png"), std::nullopt);
}

TEST(InspectionFolder, MasksMayHaveTheImagesName) {
  const TemporaryFolder folder;
  touch(folder / "test/good/1.png");
  touch(folder / "test/crack/2.jpg");
  touch(folder / "ground_truth/crack/2.png");
  const InspectionFolder set(folder.path());
  EXPECT_EQ(set.mask("test/crack/2.jpg"), folder / "ground_truth/crack/2.png");
}

TEST(InspectionFolder, TheTestFolderItselfWillDo) {
  const TemporaryFolder folder;
  touch(folder / "test/good/1.png");
  touch(folder / "test/crack/2.png");
  touch(folder / "ground_truth/crack/2_mask.png");
  const InspectionFolder set(folder / "test");
  EXPECT_TRUE(set.labelled);
  EXPECT_EQ(set.prefix, "");
  EXPECT_EQ(set.label("crack/2.png"), "crack");
  EXPECT_EQ(set.mask("crack/2.png"), folder / "ground_truth/crack/2_mask.png");
}

TEST(InspectionFolder, APlainFolderHasNoLabels) {
  const TemporaryFolder folder;
  touch(folder / "a/1.png");
  touch(folder / "b/2.png");
  touch(folder / "good/3.png");
  EXPECT_FALSE(InspectionFolder(folder / "a").labelled);
  EXPECT_FALSE(InspectionFolder(folder / "good").labelled);
  const TemporaryFolder other;
  touch(other / "a/1.png");
  touch(other / "b/2.png");
  const InspectionFolder set(other.path());
  EXPECT_FALSE(set.labelled);
  EXPECT_EQ(set.images, other.path());
  EXPECT_EQ(set.label("a/1.png"), "");
  EXPECT_EQ(set.mask("a/1.png"), std::nullopt);
}

}  // namespace
}  // namespace convae::test_test_set
