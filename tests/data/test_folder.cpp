#include "convae/data/folder.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

namespace convae::test_folder {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;
using Names = std::vector<std::string>;

Names names_of(const ImageFolder& folder) {
  Names names;
  for (const ImageFile& file : folder.files) names.push_back(file.name);
  return names;
}

std::string reason_of(const ImageFolder& folder, const std::string& name) {
  for (const SkippedFile& file : folder.skipped) {
    if (file.name == name) return file.reason;
  }
  return "";
}

TEST(ImageFolderList, IsSortedByteByByteWithSlashesBetweenFolders) {
  TemporaryFolder folder;
  for (const char* name :
       {"b.png", "a.png", "B.png", "sub/z.png", "sub.png", "sub/a/1.png", "\xC3\xA4.png"}) {
    write_text(folder / name, "x");
  }
  const ImageFolder listed = list_images(folder.path());
  // '.' is 0x2E and '/' 0x2F; capitals come before small letters, other alphabets after them.
  EXPECT_EQ(names_of(listed), (Names{"B.png", "a.png", "b.png", "sub.png", "sub/a/1.png",
                                     "sub/z.png", "\xC3\xA4.png"}));
  EXPECT_TRUE(listed.skipped.empty());
}

TEST(ImageFolderList, PathsLeadToTheFiles) {
  TemporaryFolder folder;
  write_text(folder / "sub/deep/a.png", "these bytes");
  const ImageFolder listed = list_images(folder.path());
  ASSERT_EQ(listed.files.size(), 1U);
  EXPECT_EQ(test::contents(listed.files[0].path), "these bytes");
  EXPECT_EQ(listed.root, folder.path());
}

TEST(ImageFolderList, TakesEveryImageExtensionInAnyCase) {
  TemporaryFolder folder;
  Names expected;
  for (const char* extension : {"BMP", "Gif", "JPEG", "bmp", "gif", "jfif", "jpe", "jpeg", "jpg",
                                "pNg", "png", "tif", "tiff", "webp"}) {
    expected.push_back(std::string("x.") + extension);
    write_text(folder / expected.back(), "x");
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(names_of(list_images(folder.path())), expected);
}

TEST(ImageFolderList, PassesOverOtherAndHiddenFilesWithoutAWord) {
  TemporaryFolder folder;
  for (const char* name : {"notes.txt", "png", "a.png.txt", "a.pngx", ".hidden.png", ".png",
                           ".git/a.png", "sub/.thumbs/a.png", "seen.png"}) {
    write_text(folder / name, "x");
  }
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), Names{"seen.png"});
  EXPECT_TRUE(listed.skipped.empty());
}

TEST(ImageFolderList, DescendsIntoAFolderNamedLikeAnImage) {
  TemporaryFolder folder;
  write_text(folder / "frames.png/1.png", "x");
  EXPECT_EQ(names_of(list_images(folder.path())), Names{"frames.png/1.png"});
}

TEST(ImageFolderList, FollowsLinksToFiles) {
  TemporaryFolder folder, elsewhere;
  write_text(elsewhere / "original.png", "linked");
  fs::create_symlink(elsewhere / "original.png", folder / "link.png");
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), Names{"link.png"});
  EXPECT_EQ(test::contents(listed.files.at(0).path), "linked");
}

TEST(ImageFolderList, EndsInALoopOfLinks) {
  TemporaryFolder folder;
  write_text(folder / "sub/a.png", "x");
  fs::create_directory_symlink(folder.path(), folder / "sub/loop");
  fs::create_directory_symlink(folder.path(), folder / "sub/loop.png");
  fs::create_symlink("itself.png", folder / "itself.png");
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), Names{"sub/a.png"});
  ASSERT_EQ(listed.skipped.size(), 2U);
  EXPECT_EQ(reason_of(listed, "sub/loop.png"), "a link to a folder; such links are not followed");
  EXPECT_EQ(reason_of(listed, "itself.png"), "the link leads nowhere");
}

TEST(ImageFolderList, NamesDanglingLinksAndPipesAsSkipped) {
  TemporaryFolder folder;
  fs::create_symlink("gone.png", folder / "dangling.png");
  ASSERT_EQ(::mkfifo((folder / "pipe.png").c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const ImageFolder listed = list_images(folder.path());
  EXPECT_TRUE(listed.files.empty());
  ASSERT_EQ(listed.skipped.size(), 2U);
  EXPECT_EQ(listed.skipped[0].name, "dangling.png");  // sorted
  EXPECT_EQ(listed.skipped[0].reason, "the link leads nowhere");
  EXPECT_EQ(listed.skipped[1].name, "pipe.png");
  EXPECT_EQ(listed.skipped[1].reason, "not a regular file");
}

TEST(ImageFolderList, NamesUnreadableFoldersAsSkipped) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
  TemporaryFolder folder;
  write_text(folder / "closed/a.png", "x");
  write_text(folder / "open.png", "x");
  fs::permissions(folder / "closed", fs::perms::none);
  const ImageFolder listed = list_images(folder.path());
  fs::permissions(folder / "closed", fs::perms::owner_all);
  EXPECT_EQ(names_of(listed), Names{"open.png"});
  EXPECT_EQ(reason_of(listed, "closed"), "the folder cannot be read: Permission denied");
}

TEST(ImageFolderList, TakesAFileAsAFolderOfOne) {
  TemporaryFolder folder;
  write_text(folder / "a.dat", "x");  // asked for by name, so its ending does not matter
  write_text(folder / "b.png", "x");
  const ImageFolder listed = list_images(folder / "a.dat");
  EXPECT_EQ(listed.root, folder.path());
  EXPECT_EQ(names_of(listed), Names{"a.dat"});
  EXPECT_EQ(listed.files.at(0).path, folder / "a.dat");
}

TEST(ImageFolderList, TakesALinkToAFolderAsRoot) {
  TemporaryFolder folder;
  write_text(folder / "real/a.png", "x");
  fs::create_directory_symlink("real", folder / "link");
  EXPECT_EQ(names_of(list_images(folder / "link")), Names{"a.png"});
}

TEST(ImageFolderList, SaysWhichRootIsMissingOrNoFolder) {
  TemporaryFolder folder;
  const std::string missing =
      message_of<std::runtime_error>([&] { list_images(folder / "not\nthere"); });
  EXPECT_EQ(missing, "the folder '" + folder.path().string() + "/not\\nthere' does not exist");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(message_of<std::runtime_error>([&] { list_images(folder / "pipe"); }),
            "'" + folder.path().string() + "/pipe' is not a folder");
}

TEST(TrainingFolder, IsTrainGoodInTheMvtecLayoutOnly) {
  TemporaryFolder folder;
  EXPECT_EQ(training_folder(folder.path()), folder.path());
  fs::create_directories(folder / "train/good");
  EXPECT_EQ(training_folder(folder.path()), folder.path());  // no test beside train
  write_text(folder / "test", "a file");
  EXPECT_EQ(training_folder(folder.path()), folder.path());
  fs::remove(folder / "test");
  fs::create_directory(folder / "test");
  EXPECT_EQ(training_folder(folder.path()), folder / "train/good");
}

}  // namespace
}  // namespace convae::test_folder
