#include "convae/data/layout.h"
#include "convae/tests/support.h"

namespace convae::test_layout {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;

/// "NAME|training|validation" of the layout of a tree with these folders, or "plain".
std::string layout_with(const std::vector<const char*>& folders) {
  const TemporaryFolder root;
  for (const char* folder : folders) fs::create_directories(root / folder);
  const auto layout = find_layout(root.path());
  return layout ? layout->name + "|" + layout->training + "|" + layout->validation : "plain";
}

TEST(Layout, OfPublicInspectionSetsIsRecognised) {
  EXPECT_EQ(layout_with({"train/good", "test/good", "test/crack", "ground_truth/crack"}),
            "MVTec AD|train/good|");
  EXPECT_EQ(layout_with({"train/good", "validation/good", "test_public/good", "test_public/bad",
                         "test_public/ground_truth/bad", "test_private"}),
            "MVTec AD 2|train/good|validation/good");
  EXPECT_EQ(layout_with({"train/good", "validation/good", "test/good", "test/logical_anomalies",
                         "ground_truth/logical_anomalies/000"}),
            "MVTec LOCO|train/good|validation/good");
  EXPECT_EQ(layout_with({"train/ok", "test/ok", "test/ko", "ground_truth/ko"}), "BTAD|train/ok|");
  EXPECT_EQ(layout_with({"Train/OK", "Test/OK"}), "MVTec AD|Train/OK|");
  EXPECT_EQ(layout_with({"train/good", "train/bad"}), "MVTec AD|train/good|");
}

TEST(Layout, OfFoldersOfGoodAndBadParts) {
  EXPECT_EQ(layout_with({"OK", "NG"}), "good and bad parts|OK|");
  EXPECT_EQ(layout_with({"good", "crack", "hole"}), "good and bad parts|good|");
  EXPECT_EQ(layout_with({"Normal", "Anomaly"}), "good and bad parts|Normal|");
  EXPECT_EQ(layout_with({"No-Defect", "scratch"}), "good and bad parts|No-Defect|");
  EXPECT_EQ(layout_with({"Images/Normal", "Images/Anomaly", "Masks/Anomaly"}),
            "good and bad parts|Images/Normal|");
  EXPECT_EQ(layout_with({"test/good", "test/hole", "ground_truth/hole"}),
            "good and bad parts|test/good|");
  EXPECT_EQ(layout_with({"train", "test/good", "test/hole"}), "good and bad parts|train|");
  EXPECT_EQ(layout_with({"good", "test/good", "test/hole"}), "good and bad parts|good|");
}

TEST(Layout, OfOtherTreesIsPlain) {
  EXPECT_EQ(layout_with({}), "plain");
  EXPECT_EQ(layout_with({"cats", "dogs"}), "plain");
  EXPECT_EQ(layout_with({"train", "test"}), "plain");
  EXPECT_EQ(layout_with({"train/cats", "test/cats"}), "plain");
  EXPECT_EQ(layout_with({"train/good"}), "plain") << "the same images without it";
  EXPECT_EQ(layout_with({"good"}), "plain");
  EXPECT_EQ(layout_with({"good", "ground_truth"}), "plain");
  EXPECT_EQ(layout_with({"good", "scores/heat", "scores/overlay"}), "plain") << "results of convae";
  EXPECT_EQ(layout_with({"good", "heat", "overlay"}), "plain") << "they are in the folder itself";
  EXPECT_EQ(layout_with({"good", "runs/latest/weights", "runs/latest/config.toml"}), "plain");
  EXPECT_EQ(layout_with({"albedo", "normal", "roughness"}), "plain") << "normal maps";
}

TEST(Layout, NamesOfMasksGiveTheStemOfTheirImage) {
  for (const char* mask : {"12_mask", "12_GT", "12-label", "12_masks", "12_seg", "12_Mask_3",
                           "12_mask0", "12_ground_truth", "12_groundtruth"}) {
    EXPECT_EQ(stem_of_masked(mask), "12") << mask;
  }
  EXPECT_EQ(stem_of_masked("a_mask_mask"), "a_mask");
  for (const char* other : {"12", "mask", "_mask", "12mask", "12_masked", "12_3", "unmasked"}) {
    EXPECT_EQ(stem_of_masked(other), std::nullopt) << other;
  }
}

}  // namespace
}  // namespace convae::test_layout
