#include "convae/data/folder.h"
#include "convae/tests/support.h"

#include <sys/stat.h>
#include <unistd.h>

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

using Skipped = std::vector<SkippedFile>;

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
  for (const char* extension :
       {"BMP", "Gif", "JPEG", "bmp", "dib", "gif", "jfif", "jpe", "jpeg", "jpg", "pNg", "pbm",
        "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"}) {
    expected.push_back(std::string("x.") + extension);
    write_text(folder / expected.back(), "x");
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(names_of(list_images(folder.path())), expected);
}

TEST(ImageFolderList, CountsOtherAndHiddenFilesByKind) {
  TemporaryFolder folder;
  for (const char* name : {"notes.txt", "png", "a.png.TXT", "a.heic", ".hidden.png", ".png",
                           ".git/a.png", "sub/.thumbs/a.png", "sub/b.heic", "seen.png"}) {
    write_text(folder / name, "x");
  }
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), Names{"seen.png"});
  EXPECT_TRUE(listed.skipped.empty());
  EXPECT_EQ(passed_over_text(listed),
            "2 .heic, 2 .txt, 4 hidden, 1 not a regular file, 1 without an ending");
  EXPECT_EQ(passed_over_text(list_images(folder / "seen.png")), "");
}

TEST(ImageFolderList, TriesFilesWithoutAnEndingByTheirContent) {
  TemporaryFolder folder;
  test::write_image(folder / "png.png", test::noise(3, 2, 2, 1));
  const std::string png = test::contents(folder / "png.png");
  for (const char* name : {"picture", "frame.0001", "sub/1.5"}) write_text(folder / name, png);
  for (const char* name : {"README", "empty", "data.0002"}) write_text(folder / name, "words");
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), (Names{"frame.0001", "picture", "png.png", "sub/1.5"}));
  EXPECT_EQ(passed_over_text(listed), "3 without an ending");
}

TEST(ImageFolderList, TakesWhatGlobsChoose) {
  TemporaryFolder folder;
  for (const char* name : {"a.png", "a_GT.png", "test/b.png", "test/deep/c.jpg", "x/d.jpg"}) {
    write_text(folder / name, "x");
  }
  const auto names = [&](const Globs& globs) {
    return names_of(list_images(folder.path(), globs));
  };
  EXPECT_EQ(names({{"*.jpg"}, {}}), (Names{"test/deep/c.jpg", "x/d.jpg"}));
  EXPECT_EQ(names({{}, {"test/**", "*_GT.*"}}), (Names{"a.png", "x/d.jpg"}));
  EXPECT_EQ(names({{"test/**", "x/*"}, {"*.jpg"}}), Names{"test/b.png"}) << "exclude wins";
  const ImageFolder few = list_images(folder.path(), {{"*.jpg", "*.tif"}, {"x/*", "x", "c.*"}});
  EXPECT_TRUE(few.files.empty());
  EXPECT_EQ(passed_over_text(few), "5 by --include and --exclude");
  EXPECT_EQ(few.unmatched, (Names{"--include '*.tif'", "--exclude 'x'"}));
  // They see the whole name, and names keep what comes before.
  EXPECT_EQ(names_of(list_images(folder / "test", {{}, {"test/deep/*"}}, "test/")),
            Names{"test/b.png"});
}

TEST(ImageFolderList, LeavesOutMasksUnlessTheyAreNamed) {
  TemporaryFolder folder;
  for (const char* name : {"a.png", "ground_truth/a.png", "deep/Masks/b.png", "unmasks/c.png"}) {
    write_text(folder / name, "x");
  }
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), (Names{"a.png", "unmasks/c.png"}));
  EXPECT_EQ(listed.left_out, (Skipped{{"deep/Masks", "masks"}, {"ground_truth", "masks"}}));
  EXPECT_EQ(names_of(list_images(folder.path(), {{"**/Masks/*"}, {}})), Names{"deep/Masks/b.png"});
  EXPECT_EQ(names_of(list_images(folder / "ground_truth")), Names{"a.png"}) << "asked for";
}

TEST(ImageFolderList, LeavesOutResultsOfConvae) {
  TemporaryFolder folder;
  for (const char* name :
       {"a.png", "runs/one/config.toml", "runs/one/weights/last.safetensors",
        "runs/one/samples/epoch_0001.png", "score/scores.csv", "score/summary.json",
        "score/heat/a.png", "drawn/samples.png", "drawn/sample_00001.png", "walk/strip.png",
        "walk/step_00001.png", "measured/evaluate.csv", "measured/evaluate.json", "measured/a.png",
        "unfinished/heat/a.png", "unfinished/overlay/a.png"}) {
    write_text(folder / name, "x");
  }
  write_text(folder / "out/reconstruct.csv", "path,width,height,mse,psnr,ssim,input_mse\n");
  write_text(folder / "out/a.png", "x");
  write_text(folder / "own/reconstruct.csv", "other,columns\n");
  write_text(folder / "own/b.png", "x");
  fs::create_directory_symlink("one", folder / "runs/latest");
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), (Names{"a.png", "own/b.png"}));
  Names left_out;
  for (const SkippedFile& results : listed.left_out) {
    EXPECT_EQ(results.reason, "results of convae");
    left_out.push_back(results.name);
  }
  EXPECT_EQ(left_out, (Names{"drawn", "measured", "out", "runs/latest", "runs/one", "score",
                             "unfinished", "walk"}));
  EXPECT_EQ(names_of(list_images(folder / "out")), Names{"a.png"}) << "asked for";
}

TEST(ImageFolderList, FollowsLinkedFoldersOnce) {
  TemporaryFolder store, folder;
  write_text(store / "cats/1.png", "x");
  write_text(store / "dogs/2.png", "x");
  write_text(folder / "own/3.png", "x");
  fs::create_directory_symlink(store / "cats", folder / "b_cats");
  fs::create_directory_symlink(store.path(), folder / "c_all");  // cats again, and dogs
  fs::create_directory_symlink("own", folder / "a_own");
  const ImageFolder listed = list_images(folder.path());
  EXPECT_EQ(names_of(listed), (Names{"b_cats/1.png", "c_all/dogs/2.png", "own/3.png"}));
  EXPECT_EQ(test::contents(listed.files[0].path), "x");
  EXPECT_EQ(listed.left_out, (Skipped{{"a_own", "folders that are used already"},
                                      {"c_all/cats", "folders that are used already"}}));
}

TEST(ImageFolderList, RecognisesLoopsOfLinks) {
  TemporaryFolder above;
  const fs::path folder = above / "in";
  write_text(folder / "sub/a.png", "x");
  write_text(above / "beside/b.png", "x");
  fs::create_directory_symlink(folder, folder / "sub/loop");
  fs::create_directory_symlink(above.path(), folder / "sub/around.png");
  fs::create_symlink("itself.png", folder / "itself.png");
  const ImageFolder listed = list_images(folder);
  EXPECT_EQ(names_of(listed), Names{"sub/a.png"});
  EXPECT_EQ(listed.left_out, (Skipped{{"sub/around.png", "links that lead round in a loop"},
                                      {"sub/loop", "links that lead round in a loop"}}));
  EXPECT_EQ(listed.skipped, (Skipped{{"itself.png", "the link leads nowhere"}}));
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
  EXPECT_EQ(listed.skipped, (Skipped{{"closed", "the folder cannot be read: Permission denied"}}));
}

TEST(ImageFolderList, TakesAFileAsAFolderOfOne) {
  TemporaryFolder folder;
  write_text(folder / "a.dat", "x");  // asked for by name, so its ending does not matter
  write_text(folder / "b.png", "x");
  const ImageFolder listed = list_images(folder / "a.dat");
  EXPECT_EQ(listed.root, folder.path());
  EXPECT_EQ(names_of(listed), Names{"a.dat"});
  EXPECT_EQ(listed.files[0].path, folder / "a.dat");
  const ImageFolder none = list_images(folder / "b.png", {{}, {"*.png", "typo*"}});
  EXPECT_TRUE(none.files.empty());
  EXPECT_EQ(none.excluded, 1);
  EXPECT_EQ(none.unmatched, Names{"--exclude 'typo*'"});
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

}  // namespace
}  // namespace convae::test_folder
