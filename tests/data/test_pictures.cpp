#include "convae/data/pictures.h"
#include "convae/tests/support.h"

namespace convae::test_pictures {
namespace {

using test::uniform;

Size size_of(const torch::Tensor& image) { return {image.size(1), image.size(2)}; }

TEST(PicturesTest, SmallImagesAreEnlargedByAWholeFactorAndLargeOnesShrunkToTheLimit) {
  EXPECT_EQ(shown_size({28, 28}), (Size{112, 112}));
  EXPECT_EQ(shown_size({1, 1}), (Size{112, 112}));
  EXPECT_EQ(shown_size({60, 40}), (Size{60, 40}));
  EXPECT_EQ(shown_size({1000, 500}), (Size{1000, 500}));
  EXPECT_EQ(shown_size({1000, 500}, 100), (Size{100, 50}));
  EXPECT_EQ(shown_size({1, 4000}, 100), (Size{1, 100}));
}

TEST(PicturesTest, AStackOfComparisonsComesApartAgain) {
  const std::vector<torch::Tensor> inputs = {uniform({3, 20, 31}, 1), uniform({1, 130, 7}, 2),
                                             uniform({3, 300, 200}, 3)};
  constexpr std::int64_t kMaxSide = 150;
  std::vector<torch::Tensor> pictures;
  std::vector<Size> shown;
  for (const torch::Tensor& input : inputs) {
    pictures.push_back(comparison_picture(input, 1 - input, input, kMaxSide));
    shown.push_back(shown_size(size_of(input), kMaxSide));
  }
  const auto rows = take_apart(stack_pictures(pictures), shown);
  ASSERT_EQ(rows.size(), inputs.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const torch::Tensor& part : rows[i]) EXPECT_EQ(size_of(part), shown[i]);
  }
  // Enlarged five times, as it was, and shrunk.
  const torch::Tensor first = rows[0][1].slice(1, 0, c10::nullopt, 3).slice(2, 0, c10::nullopt, 3);
  EXPECT_TRUE(torch::equal(first, to_uint8(1 - inputs[0])));
  EXPECT_TRUE(torch::equal(rows[1][0], to_uint8(inputs[1]).expand({3, 130, 7})));
  EXPECT_TRUE(torch::equal(rows[1][2], error_picture(inputs[1], 1 - inputs[1])));
  EXPECT_EQ(size_of(rows[2][0]), (Size{150, 100}));
}

TEST(PicturesTest, AStackOfOtherImagesIsNotTakenApart) {
  const torch::Tensor image = uniform({3, 120, 120}, 1);
  const torch::Tensor stack = stack_pictures({comparison_picture(image, image, image)});
  EXPECT_EQ(take_apart(stack, {{120, 120}}).size(), 1U);
  EXPECT_TRUE(take_apart(stack, {{120, 121}}).empty());
  EXPECT_TRUE(take_apart(stack, {{120, 120}, {120, 120}}).empty());
  EXPECT_TRUE(take_apart(stack, {}).empty());
}

}  // namespace
}  // namespace convae::test_pictures
