#include "convae/core/text.h"
#include "convae/data/split.h"
#include "convae/tests/support.h"

#include <xxhash.h>

#include <cmath>

namespace convae::test_split {
namespace {

namespace fs = std::filesystem;
using test::contains;
using Names = std::vector<std::string>;

class SplitTest : public testing::Test {
protected:
  SplitTest() {
    options_.data = root_.path().string();
    callbacks_.info = [this](const std::string& line) { said_.push_back(line); };
    callbacks_.warning = [this](const std::string& line) { warned_.push_back(line); };
  }

  void draw(const Names& names) {
    for (const std::string& name : names) {
      test::write_image(root_ / name, test::noise(1, 4, 4, ++drawn_));
    }
  }

  static std::optional<std::string> takes_all(const ImageEntry&) { return std::nullopt; }

  SplitImages split() { return split_images(options_, takes_all, callbacks_); }

  static Names names_of(const ImageEntries& entries) {
    Names names;
    for (const ImageEntry& entry : entries) names.push_back(entry.file.name);
    return names;
  }

  static bool has(const Names& lines, const std::string& part) {
    return std::ranges::any_of(lines, [&](const auto& line) { return contains(line, part); });
  }

  test::TemporaryFolder root_;
  DataOptions options_;
  Callbacks callbacks_;
  Names said_, warned_;
  std::uint64_t drawn_ = 0;
};

TEST_F(SplitTest, LayoutsGiveTrainingAndValidationImages) {
  draw({"train/good/1.png", "train/good/2.png", "validation/good/3.png", "test_public/good/4.png",
        "test_public/bad/5.png", "test_public/ground_truth/bad/5_mask.png"});
  const SplitImages images = split();
  EXPECT_EQ(names_of(images.training), (Names{"train/good/1.png", "train/good/2.png"}));
  EXPECT_EQ(names_of(images.validation), Names{"validation/good/3.png"});
  EXPECT_TRUE(has(said_,
                  "has the MVTec AD 2 layout: training on train/good, validating on "
                  "validation/good, not on 'test_public'"))
      << said_[0];
  EXPECT_TRUE(warned_.empty()) << warned_[0];
  const FoundImages good = find_good_images(options_, takes_all, callbacks_);
  EXPECT_EQ(names_of(good.entries), Names{"validation/good/3.png"}) << "to calibrate on";
}

TEST_F(SplitTest, ValidationImagesThatAreNamedWin) {
  draw({"train/good/1.png", "validation/good/3.png", "test/bad/4.png", "test/good/5.png"});
  options_.val = root_ / "test/good";
  const SplitImages images = split();
  EXPECT_EQ(names_of(images.training), Names{"train/good/1.png"});
  EXPECT_EQ(names_of(images.validation), Names{"5.png"});
}

TEST_F(SplitTest, GlobsOfPathsChooseAmongAllFolders) {
  draw({"OK/1.png", "NG/2.png", "NG/3.png"});
  options_.val_split = 0;
  EXPECT_EQ(names_of(split().training), Names{"OK/1.png"});
  EXPECT_TRUE(has(said_, "good and bad parts layout: training on OK, not on 'NG' (--include '**'"));
  options_.include = {"*.png"};
  EXPECT_EQ(names_of(split().training), Names{"OK/1.png"}) << "of what the layout names";
  options_.include = {"**"};
  options_.exclude = {"NG/3.*"};
  EXPECT_EQ(names_of(split().training), (Names{"NG/2.png", "OK/1.png"}));
}

TEST_F(SplitTest, ImagesThatAreNamedAreAllThereAre) {
  draw({"train/good/1.png", "train/good/back\\slash.png", "test/good/3.png", "test/bad/4.png"});
  options_.images = {"train/good/back\\\\slash.png", "test/good/3.png", "gone.png"};
  options_.val_split = 0;
  const SplitImages images = split();
  EXPECT_EQ(names_of(images.training), (Names{"test/good/3.png", "train/good/back\\slash.png"}))
      << "wherever they lie";
  EXPECT_EQ(warned_, Names{"1 of 3 files that 'images' names are not there: 'gone.png'"});
  options_.images = {"gone.png"};
  EXPECT_TRUE(contains(test::message_of<std::runtime_error>([&] { split(); }), "no usable image"));
}

TEST_F(SplitTest, WarnsOfTestImagesAmongThoseToTrainOn) {
  draw({"train/1.png", "test/2.png", "val/3.png", "deep/train/a/4.png", "deep/Test/5.png"});
  options_.val_split = 0;
  split();
  ASSERT_EQ(warned_.size(), 1U);
  for (const char* part : {"training on 'test' too", "--exclude '**/Test/**'",
                           "--exclude 'test/**'", "--exclude 'val/**'"}) {
    EXPECT_TRUE(contains(warned_[0], part)) << warned_[0];
  }
  warned_.clear();
  options_.exclude = {"test/**", "val/**", "**/Test/**"};
  split();
  EXPECT_TRUE(warned_.empty());
}

TEST_F(SplitTest, TakesValidationImagesOutOfTraining) {
  draw({"a/1.png", "a/2.png", "val/3.png"});
  options_.val = root_ / "val";
  EXPECT_EQ(names_of(split().training), (Names{"a/1.png", "a/2.png"}));
  EXPECT_TRUE(has(said_, "1 validation images are among the training images"));
  // Also where a link leads to them.
  fs::create_symlink(root_ / "val/3.png", root_ / "a/link.png");
  EXPECT_EQ(names_of(split().training), (Names{"a/1.png", "a/2.png"}));
  options_.val = options_.data;
  EXPECT_EQ(split().training.size(), 4U) << "else there would be none";
  EXPECT_TRUE(has(warned_, "all training images are validation images"));
}

TEST_F(SplitTest, CountsTrainingImagesOfGroupsThatValidate) {
  draw({"train/good/p1_a.png", "train/good/p1_b.png", "train/good/p2_a.png", "train/good/x.png",
        "validation/good/p1_c.png", "validation/good/y.png", "test/good/1.png"});
  options_.group_regex = "p(\\d)_";
  EXPECT_EQ(split().training.size(), 4U);
  EXPECT_TRUE(has(warned_, "2 training images are of groups that the validation images have"));
  warned_.clear();
  options_.group_regex = "";
  split();
  EXPECT_TRUE(warned_.empty()) << warned_[0];
}

TEST_F(SplitTest, NamesMasksBesideTheirImages) {
  draw({"1.png", "1_GT.png", "2.png", "2_GT.png", "other_GT.png"});
  options_.val_split = 0;
  split();
  ASSERT_EQ(warned_.size(), 1U);
  EXPECT_TRUE(contains(warned_[0],
                       "2 images seem to be masks of others, such as '1_GT.png' of "
                       "'1.png'; leave them out with --exclude '*_GT.*'"))
      << warned_[0];
  options_.exclude = {"*_GT.*"};
  EXPECT_EQ(names_of(split().training), (Names{"1.png", "2.png"}));
  EXPECT_TRUE(has(said_, "passed over: 3 by --include and --exclude"));
  EXPECT_EQ(warned_.size(), 1U);
  options_.exclude.clear();
  draw({"1_mask_2.png"});
  split();
  EXPECT_TRUE(contains(warned_.back(), "with --exclude '*_GT.*' --exclude '*_mask_[0-9]*.*'"));
}

TEST_F(SplitTest, NamesFoldersOfLabelsThatPairWithImages) {
  draw({"images/1.png", "images/2.png", "Labels/1.png", "labels/other.png"});
  options_.val_split = 0;
  split();
  ASSERT_EQ(warned_.size(), 1U);
  EXPECT_TRUE(contains(warned_[0], "1 images in 'Labels'")) << warned_[0];
  EXPECT_TRUE(contains(warned_[0], "--exclude 'Labels/**'")) << warned_[0];
  draw({"set [1]/labels/1.png"});
  split();
  EXPECT_TRUE(contains(warned_.back(), R"(--exclude $'set \\[1]/labels/**')")) << warned_.back();
  options_.exclude = {R"(set \[1]/labels/**)", "Labels/**"};  // as a shell gives it
  warned_.clear();
  split();
  EXPECT_TRUE(warned_.empty()) << warned_[0];
}

TEST_F(SplitTest, NamesFoldersOfLabelsWhateverLiesBetween) {
  draw({"images/a/1.png", "images/b/1.png", "images/b/2.png", "annotations/a/1.png",
        "annotations/b/1_label.png", "annotations/b/2_label.png", "annotations/c/9.png"});
  options_.val_split = 0;
  split();
  ASSERT_EQ(warned_.size(), 1U);
  EXPECT_TRUE(contains(warned_[0], "3 images in 'annotations' have the names of others"));
  EXPECT_TRUE(contains(warned_[0], "--exclude 'annotations/**'"));
  options_.exclude = {"annotations/**"};
  draw({"JPEGImages/1.png", "SegmentationClass/1.png"});
  split();
  EXPECT_TRUE(contains(warned_.back(), "1 images in 'SegmentationClass'")) << warned_.back();
  options_.exclude = {"annotations/**", "SegmentationClass/**"};
  draw({"segmentation/pictures/7.png", "segmentation/labels/7.png"});
  warned_.clear();
  split();
  EXPECT_EQ(warned_.size(), 1U) << "the pictures in 'segmentation' are none";
  EXPECT_TRUE(contains(warned_.back(), "1 images in 'segmentation/labels'")) << warned_.back();
}

TEST_F(SplitTest, NamesOnlyTheMasksInAFolderOfLabelsWithMorePictures) {
  draw({"images/1.png", "labels/a/1.png", "labels/b/7.png", "labels/b/8.png"});
  options_.val_split = 0;
  split();
  ASSERT_EQ(warned_.size(), 1U);
  EXPECT_TRUE(contains(warned_[0], "1 images in 'labels' have")) << warned_[0];
  EXPECT_TRUE(contains(warned_[0], "with --exclude 'labels/a/*'")) << warned_[0];
}

TEST_F(SplitTest, KnowsMasksNamedAsTheirImagesWhoseNamesEndAsThoseOfMasksDo) {
  draw({"images/wine_label_1.png", "images/wine_label_2.png", "annotations/wine_label_1.png",
        "annotations/wine_label_2.png"});
  options_.val_split = 0;
  split();
  EXPECT_TRUE(has(warned_,
                  "2 images in 'annotations' have the names of others and seem to be "
                  "their masks; leave them out with --exclude 'annotations/**'"));
}

TEST_F(SplitTest, NamesImagesThatDifferInTheirEndingAlone) {
  draw({"1.png", "2.png"});
  test::write_image(root_ / "1.bmp", test::noise(1, 4, 4, 9), ImageFormat::bmp);
  options_.val_split = 0;
  split();
  ASSERT_EQ(warned_.size(), 1U);
  EXPECT_TRUE(contains(warned_[0], "'1.bmp' and '1.png'")) << warned_[0];
}

TEST_F(SplitTest, SaysWhatItPassesOverAndTheWayOut) {
  draw({"1.png", "ground_truth/2.png", "gtFine/town/2.png", "masks/3.png"});
  for (const char* name : {"4.HEIC", "5.heic", "6.jxl", "7.nef", "8.avif", "9.jp2", "notes.txt"}) {
    test::write_text(root_ / name, "x");
  }
  options_.val_split = 0;
  split();
  EXPECT_TRUE(has(said_, "passed over: 1 .avif, 2 .heic, 1 .jp2, 1 .jxl, 1 .nef, 1 .txt"));
  EXPECT_TRUE(has(said_, "left out as masks: 'ground_truth', 'gtFine', 'masks'"));
  ASSERT_EQ(warned_.size(), 5U);
  EXPECT_TRUE(has(warned_,
                  "2 .heic files are images that convae does not read; convert them to "
                  "JPEG or PNG, such as with heif-convert"));
  for (const char* part : {"1 .nef files", "with avifdec", "with opj_decompress"}) {
    EXPECT_TRUE(has(warned_, part)) << part;
  }
}

TEST_F(SplitTest, SaysInTheErrorWhatThereIsInstead) {
  test::write_text(root_ / "1.heic", "x");
  const std::string message = test::message_of<std::runtime_error>([&] { split(); });
  EXPECT_TRUE(contains(message, "(0 skipped, passed over: 1 .heic)")) << message;
}

TEST_F(SplitTest, NamesGlobsThatMatchNothing) {
  draw({"cats/1.png"});
  options_.val_split = 0;
  options_.exclude = {"cats"};
  EXPECT_EQ(split().training.size(), 1U);
  EXPECT_TRUE(has(warned_, "--exclude 'cats' matches no image in " + in_quotes(root_.path()) +
                               "; all below a folder is 'folder/**'"));
}

TEST_F(SplitTest, NamesGlobsThatMatchNoTrainingImageOfALayout) {
  draw({"good/1.png", "good/2.png", "scratch/3.png", "validation/good/4.png"});
  options_.val_split = 0;
  options_.exclude = {"typo*", "1.png"};
  EXPECT_EQ(names_of(split().training), Names{"good/2.png"});
  EXPECT_EQ(warned_, Names{unmatched_line("--exclude 'typo*'", root_ / "good")});
}

TEST(ValidationShare, IsAboutTheShareThatIsAskedFor) {
  for (const double share : {0.02, 0.1, 0.5, 0.9}) {
    int held_out = 0;
    for (int i = 0; i < 20000; ++i) {
      held_out += in_validation_share("folder/img_" + std::to_string(i) + ".png", share);
    }
    // five standard deviations of a binomial count
    EXPECT_NEAR(held_out, 20000 * share, 5 * std::sqrt(20000 * share * (1 - share))) << share;
  }
}

TEST(ValidationShare, GrowsWithoutMovingAFileOut) {
  for (int i = 0; i < 2000; ++i) {
    const std::string name = std::to_string(i) + ".jpg";
    EXPECT_FALSE(in_validation_share(name, 0));
    EXPECT_TRUE(in_validation_share(name, 1));
    if (in_validation_share(name, 0.1)) {
      EXPECT_TRUE(in_validation_share(name, 0.2)) << name;
    }
  }
}

TEST(ValidationShare, StaysWhatItWasWhenRunsWereMade) {
  // A change of the hash would mix the validation images of old runs into their training.
  // XXH3-64 of nothing is 2d06800538d394c2 (xxHash's own test vectors).
  EXPECT_FALSE(in_validation_share("", static_cast<double>(0x2d06800538d394c2) * 0x1p-64 - 1e-9));
  EXPECT_TRUE(in_validation_share("", static_cast<double>(0x2d06800538d394c2) * 0x1p-64 + 1e-9));
  for (const std::string name : {"a.png", "train/b.png", "\xC3\xA4.jpg"}) {
    const double share =
        static_cast<double>(XXH3_64bits(name.data(), name.size())) / std::pow(2.0, 64);
    EXPECT_FALSE(in_validation_share(name, share - 1e-9)) << name;
    EXPECT_TRUE(in_validation_share(name, share + 1e-9)) << name;
  }
}

}  // namespace
}  // namespace convae::test_split
