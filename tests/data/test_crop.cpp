#include "convae/data/loader.h"
#include "convae/tests/support.h"

#include <map>
#include <memory>
#include <utility>

namespace convae::test_crop {
namespace {

using test::as_int;
using test::entries_of;
using test::noise;
using test::TemporaryFolder;
using test::write_image;

/// Every pixel of these images says where it lies, so that a crop shows where it was taken.
class CropTest : public testing::Test {
protected:
  static constexpr std::int64_t kHeight = 9, kWidth = 12;
  static constexpr Size kCrop{7, 9};

  CropTest() {
    const torch::Tensor rows = torch::arange(kHeight).view({kHeight, 1}).expand({kHeight, kWidth});
    const torch::Tensor columns = torch::arange(kWidth).view({1, kWidth}).expand({kHeight, kWidth});
    for (int i = 0; i < 5; ++i) {
      write_image(folder_ / (std::to_string(i) + ".png"),
                  torch::stack({rows, columns, torch::full_like(rows, i)}).to(torch::kUInt8));
    }
    dataset_ = std::make_unique<ImageDataset>(entries_of(folder_.path()),
                                              ImageDataset::Options{.crop = kCrop});
  }

  /// (top, left) of each image, by index.
  std::map<std::int64_t, std::pair<int, int>> places(View rule, std::int64_t batch_size = 2) {
    std::map<std::int64_t, std::pair<int, int>> all;
    Loader loader(*dataset_, plan_training_epoch(*dataset_, batch_size, rule.seed, rule.epoch),
                  rule, /*workers=*/0);
    while (const auto step = loader.next()) {
      for (const MicroBatch& batch : *step) {
        EXPECT_EQ(batch.images.size(2), kCrop.h);
        EXPECT_EQ(batch.images.size(3), kCrop.w);
        for (std::size_t i = 0; i < batch.indices.size(); ++i) {
          const torch::Tensor image = as_int(batch.images[i]);
          const int top = image[0][0][0].item<int>();
          const int left = image[1][0][0].item<int>();
          // One piece of the image, of the image that the index names.
          EXPECT_TRUE(
              torch::equal(image[0].select(1, 0), torch::arange(top, top + kCrop.h, torch::kInt)));
          EXPECT_TRUE(torch::equal(image[1].select(0, 0),
                                   torch::arange(left, left + kCrop.w, torch::kInt)));
          EXPECT_EQ(image[2].max().item<int>(), batch.indices[i]);
          all[batch.indices[i]] = {top, left};
        }
      }
    }
    return all;
  }

  TemporaryFolder folder_;
  std::unique_ptr<ImageDataset> dataset_;
};

TEST_F(CropTest, IsCentredUnlessRandom) {
  for (const auto& [index, place] : places({})) EXPECT_EQ(place, std::make_pair(1, 1));
}

TEST_F(CropTest, DependsOnSeedEpochAndImageOnly) {
  const auto first = places({true, /*seed=*/3, /*epoch=*/1});
  EXPECT_EQ(first.size(), 5U);
  EXPECT_EQ(places({true, 3, 1}, /*batch_size=*/5), first);
  EXPECT_NE(places({true, 3, 2}), first);
  EXPECT_NE(places({true, 4, 1}), first);
}

TEST_F(CropTest, IsTakenFromEveryPlaceInsideTheImage) {
  std::map<std::pair<int, int>, int> count;
  for (int epoch = 0; epoch < 120; ++epoch) {
    for (const auto& [index, place] : places({true, 0, epoch})) ++count[place];
  }
  EXPECT_EQ(count.size(), 12U);  // (9 - 7 + 1) × (12 - 9 + 1)
  // 600 draws of 12: 50 each, five standard deviations are 34.
  for (const auto& [place, times] : count) EXPECT_NEAR(times, 50, 34);
}

}  // namespace
}  // namespace convae::test_crop
