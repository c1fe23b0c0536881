#include "convae/inspection/test_set.h"
#include "convae/tests/support.h"

namespace convae::test_test_set {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;
using Paths = std::vector<fs::path>;

void touch(const fs::path& path) { test::write_text(path, "x"); }

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
  EXPECT_EQ(set.label("train/good/0.png"), "good");
  EXPECT_EQ(set.label("train/bad/0.png"), "") << "not in a folder of good images to train on";
  EXPECT_EQ(set.good_folders, std::vector<std::string>{"train/good"});
  EXPECT_EQ(set.label("test/crack/deeper/2.png"), "crack");
  EXPECT_EQ(set.label("test/stray.png"), "");
  EXPECT_EQ(set.masks("test/crack/2.png"), Paths{folder / "ground_truth/crack/2_mask.png"});
  EXPECT_EQ(set.masks("test/crack/3.png"), Paths{});
  EXPECT_EQ(set.masks("test/good/1.png"), Paths{});
}

TEST(InspectionFolder, FindsMasksOfNumberedFiles) {
  const TemporaryFolder folder;
  for (const char* name :
       {"test/good/frame.0000", "test/hole/frame.0001", "test/hole/frame.0002",
        "ground_truth/hole/frame.0001_mask.png", "ground_truth/hole/frame.0002"}) {
    touch(folder / name);
  }
  test::write_text(folder / "ground_truth/hole/frame.0002", "P5 1 1 255 x");
  const InspectionFolder set(folder.path());
  EXPECT_EQ(set.masks("test/hole/frame.0001"),
            Paths{folder / "ground_truth/hole/frame.0001_mask.png"});
  EXPECT_EQ(set.masks("test/hole/frame.0002"), Paths{folder / "ground_truth/hole/frame.0002"});
}

TEST(InspectionFolder, KnowsMvtecAd2) {
  const TemporaryFolder folder;
  touch(folder / "train/good/0.png");
  touch(folder / "test_public/good/1.png");
  touch(folder / "test_public/bad/2_regular.png");
  touch(folder / "test_public/ground_truth/bad/2_regular_mask.png");
  const InspectionFolder set(folder.path());
  EXPECT_EQ(set.prefix, "test_public/");
  EXPECT_EQ(set.label("test_public/bad/2_regular.png"), "bad");
  EXPECT_EQ(set.masks("test_public/bad/2_regular.png"),
            Paths{folder / "test_public/ground_truth/bad/2_regular_mask.png"});
  EXPECT_EQ(InspectionFolder(folder / "test_public").masks("bad/2_regular.png").size(), 1U);
}

TEST(InspectionFolder, CallsGoodWhateverMeansIt) {
  const TemporaryFolder folder;
  touch(folder / "test/ok/1.bmp");
  touch(folder / "test/ko/2.bmp");
  touch(folder / "ground_truth/ko/2.bmp");
  const InspectionFolder set(folder.path());
  EXPECT_EQ(set.label("test/ok/1.bmp"), "good");
  EXPECT_EQ(set.label("test/ko/2.bmp"), "ko");
  EXPECT_EQ(set.masks("test/ko/2.bmp"), Paths{folder / "ground_truth/ko/2.bmp"});
  const TemporaryFolder parts;
  touch(parts / "OK/1.png");
  touch(parts / "NG/2.png");
  const InspectionFolder plain(parts.path());
  EXPECT_EQ(plain.prefix, "");
  EXPECT_EQ(plain.label("OK/1.png"), "good");
  EXPECT_EQ(plain.label("NG/2.png"), "NG");
}

TEST(InspectionFolder, MasksHaveManyNamesAndMayBeSeveral) {
  const TemporaryFolder folder;
  touch(folder / "test/good/1.png");
  for (const char* mask : {"2.png", "3_mask.PNG", "3_mask_2.bmp", "4/000.png", "4/001.png",
                           "5_GT.tif", "5.png", "33_mask.png"}) {
    touch(folder / "ground_truth/crack" / mask);
  }
  touch(folder / "test/crack/rgb/7.png");
  touch(folder / "test/crack/gt/7.png");
  const InspectionFolder set(folder.path());
  const auto names = [&](const std::string& image) {
    std::vector<std::string> names;
    for (const fs::path& path : set.masks("test/crack/" + image)) {
      names.push_back(path.filename().string());
    }
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names("2.jpg"), Names{"2.png"});
  EXPECT_EQ(names("3.jpg"), (Names{"3_mask.PNG", "3_mask_2.bmp"}));
  EXPECT_EQ(names("4.jpg"), (Names{"000.png", "001.png"}));
  EXPECT_EQ(names("5.jpg"), Names{"5_GT.tif"}) << "the name that says it goes first";
  EXPECT_EQ(names("6.jpg"), Names{});
  EXPECT_EQ(set.masks("test/crack/rgb/7.png"), Paths{folder / "test/crack/gt/7.png"});
}

TEST(InspectionFolder, FilesBesideMasksAreNone) {
  const TemporaryFolder folder;
  touch(folder / "test/good/1.png");
  for (const char* file : {"2.json", "2.png", "2.txt", "3/Thumbs.db", "3/0.png", "4.json", "5"}) {
    touch(folder / "ground_truth/crack" / file);
  }
  const InspectionFolder set(folder.path());
  EXPECT_EQ(set.masks("test/crack/2.png"), Paths{folder / "ground_truth/crack/2.png"});
  EXPECT_EQ(set.masks("test/crack/3.png"), Paths{folder / "ground_truth/crack/3/0.png"});
  EXPECT_EQ(set.masks("test/crack/4.png"), Paths{});
  EXPECT_EQ(set.masks("test/crack/5.png"), Paths{}) << "without an ending, and no image inside";
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
  EXPECT_EQ(set.masks("crack/2.png"), Paths{folder / "ground_truth/crack/2_mask.png"});
}

TEST(InspectionFolder, TestSetsMayHoldGoodOrBadImagesAlone) {
  const TemporaryFolder good, bad;
  touch(good / "train/good/0.png");
  touch(good / "test/good/1.png");
  touch(bad / "train/good/0.png");
  touch(bad / "test/crack/1.png");
  EXPECT_EQ(InspectionFolder(good.path()).label("test/good/1.png"), "good");
  EXPECT_EQ(InspectionFolder(good / "test").label("good/1.png"), "good");
  EXPECT_EQ(InspectionFolder(bad.path()).label("test/crack/1.png"), "crack");
  EXPECT_EQ(InspectionFolder(bad / "test").label("crack/1.png"), "crack");
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
  touch(other / "test/a/3.png");
  const InspectionFolder set(other.path());
  EXPECT_FALSE(set.labelled);
  EXPECT_EQ(set.images, other.path());
  EXPECT_EQ(set.label("a/1.png"), "");
  EXPECT_EQ(set.masks("a/1.png"), Paths{});
}

class ReadMasks : public testing::Test {
protected:
  /// What a mask file with these pixels says of an image of 4x6.
  torch::Tensor read(const std::vector<torch::Tensor>& masks, ImageFormat format,
                     int orientation = 1) {
    Paths paths;
    for (const torch::Tensor& mask : masks) {
      paths.push_back(folder_ / std::to_string(paths.size()));
      test::write_image(paths.back(), mask, format);
    }
    ImageInfo image;
    image.height = 4;
    image.width = 6;
    image.orientation = orientation;
    return read_masks(paths, image, kDefaultMaxPixels);
  }

  TemporaryFolder folder_;
};

TEST_F(ReadMasks, WhatIsNotZeroIsADefect) {
  const torch::Tensor where = test::uniform({4, 6}, 3) > 0.5;
  for (const int value : {1, 2, 127, 255}) {
    for (const ImageFormat format : {ImageFormat::png, ImageFormat::bmp, ImageFormat::tiff}) {
      const torch::Tensor mask = (where * value).to(torch::kUInt8).unsqueeze(0);
      EXPECT_TRUE(torch::equal(read({mask}, format), where)) << value << to_string(format);
    }
  }
  torch::Tensor blue = torch::zeros({3, 4, 6}, torch::kUInt8);
  blue[2] = where.to(torch::kUInt8);  // which is no grey at all after rounding
  EXPECT_TRUE(torch::equal(read({blue}, ImageFormat::png), where));
  const torch::Tensor wide = where.to(torch::kInt).to(torch::kUInt16).unsqueeze(0);
  EXPECT_TRUE(torch::equal(read({wide}, ImageFormat::png), where));
  EXPECT_FALSE(read({torch::zeros({1, 4, 6}, torch::kUInt8)}, ImageFormat::png).any().item<bool>());
}

TEST_F(ReadMasks, TheHaloOfJpegIsNone) {
  torch::Tensor mask = torch::zeros({1, 4, 6}, torch::kUInt8);
  mask.narrow(2, 3, 3).fill_(255);
  EXPECT_TRUE(torch::equal(read({mask}, ImageFormat::jpeg), mask[0] > 0));
}

TEST_F(ReadMasks, SeveralAreOne) {
  torch::Tensor left = torch::zeros({1, 4, 6}, torch::kUInt8), right = left.clone();
  left.narrow(2, 0, 2).fill_(1);
  right.narrow(2, 5, 1).fill_(9);
  EXPECT_TRUE(torch::equal(read({left, right}, ImageFormat::png), (left + right)[0] > 0));
}

TEST_F(ReadMasks, ThoseOfTheStoredImageAreTurnedWithIt) {
  const torch::Tensor stored = (test::uniform({1, 6, 4}, 4) > 0.5).to(torch::kUInt8);
  // 6: the first stored row is the scene's right side, so it is turned clockwise.
  EXPECT_TRUE(torch::equal(read({stored}, ImageFormat::png, 6), stored[0].rot90(-1) > 0));
  EXPECT_TRUE(torch::equal(read({stored}, ImageFormat::png, 8), stored[0].rot90(1) > 0));
  EXPECT_TRUE(torch::equal(read({stored}, ImageFormat::png, 5), stored[0].t() > 0));
  const torch::Tensor seen = (test::uniform({1, 4, 6}, 5) > 0.5).to(torch::kUInt8);
  EXPECT_TRUE(torch::equal(read({seen}, ImageFormat::png, 6), seen[0] > 0));
}

TEST_F(ReadMasks, AnotherSizeIsNamed) {
  const torch::Tensor stored = torch::ones({1, 6, 4}, torch::kUInt8);
  EXPECT_EQ(test::message_of<MaskSizeError>([&] { read({stored}, ImageFormat::png); }),
            "its size is 6x4, but its image's is 4x6");
}

}  // namespace
}  // namespace convae::test_test_set
