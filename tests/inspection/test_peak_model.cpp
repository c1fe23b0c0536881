#include "convae/inspection/peak_model.h"
#include "convae/tests/support.h"

#include <numeric>

namespace convae::test_peak_model {
namespace {

/// Of images of which each is a group of its own.
PeakModel alone(const torch::Tensor& peaks) {
  std::vector<int> groups(static_cast<std::size_t>(peaks.size(0)));
  std::iota(groups.begin(), groups.end(), 0);
  return PeakModel(peaks, groups);
}

torch::Tensor good_peaks(std::int64_t images, std::int64_t channels, std::uint64_t seed) {
  return (test::gaussian({images, channels}, seed).to(torch::kDouble) * 0.5) + 4;
}

TEST(PeakModel, UsualPeaksScoreZero) {
  const PeakModel model = alone(good_peaks(50, 6, 1));
  EXPECT_DOUBLE_EQ(model.score(model.mean()), 0);
  EXPECT_DOUBLE_EQ(model.score(model.mean() - 1), 0) << "less than usual is no anomaly";
}

TEST(PeakModel, OneDeviationAboveInAllScoresOne) {
  const torch::Tensor peaks = good_peaks(20000, 4, 2);
  const PeakModel model = alone(peaks);
  EXPECT_NEAR(model.score(model.mean() + peaks.std(0)), 1, 0.05);
  EXPECT_NEAR(model.score(model.mean() + 3 * peaks.std(0)), 3, 0.15);
}

TEST(PeakModel, ChannelsThatRiseTogetherCountOnce) {
  const torch::Tensor one = good_peaks(5000, 1, 3);
  const torch::Tensor other = good_peaks(5000, 1, 4);
  const torch::Tensor copies =
      torch::cat({one, one, one, other}, 1) + 0.02 * good_peaks(5000, 4, 5);
  const PeakModel model = alone(copies);
  const torch::Tensor deviation = copies.std(0);
  torch::Tensor three = model.mean().clone(), single = model.mean().clone();
  three.narrow(0, 0, 3) += 2 * deviation.narrow(0, 0, 3);
  single[3] += 2 * deviation[3];
  EXPECT_NEAR(model.score(three), model.score(single), 0.1);
}

TEST(PeakModel, ShrinksMoreTheFewerImagesThereAre) {
  const PeakModel few = alone(good_peaks(3, 10, 6)), some = alone(good_peaks(30, 10, 6)),
                  many = alone(good_peaks(3000, 10, 6));
  EXPECT_GT(few.shrinkage(), 0.3);
  EXPECT_LE(few.shrinkage(), 1);
  // Independent channels: nothing is lost by taking them for that.
  EXPECT_GT(some.shrinkage(), 0.3);
  EXPECT_LT(test::difference(few.mean(), many.mean()), 1);
}

TEST(PeakModel, ImagesOfOnePartCountAsLittleMoreThanOne) {
  const torch::Tensor parts = good_peaks(12, 10, 7);
  const torch::Tensor repeated = parts.repeat_interleave(8, 0);
  std::vector<int> groups(96);
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int>(i / 8);
  const double once = alone(parts).shrinkage();
  EXPECT_NEAR(PeakModel(repeated, groups).shrinkage(), once, 1e-9);
  EXPECT_LT(alone(repeated).shrinkage(), once / 2);
}

TEST(PeakModel, FewGroupsOfIndependentImagesShrinkAsTheImagesThemselvesDo) {
  const torch::Tensor peaks = good_peaks(200, 30, 8);
  std::vector<int> groups(200);
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int>(i % 5);
  const double of_images = alone(peaks).shrinkage();
  EXPECT_NEAR(PeakModel(peaks, groups).shrinkage(), of_images, 0.1 * of_images);
}

TEST(PeakModel, OneGroupShowsNothingOfOthers) {
  EXPECT_EQ(PeakModel(good_peaks(20, 6, 9), std::vector<int>(20, 3)).shrinkage(), 1);
}

TEST(PeakModel, EqualImagesAreNoDivisionByZero) {
  const PeakModel model = alone(torch::full({3, 5}, 2.0, torch::kDouble));
  EXPECT_DOUBLE_EQ(model.score(torch::full({5}, 2.0, torch::kDouble)), 0);
  const double score = model.score(torch::full({5}, 3.0, torch::kDouble));
  EXPECT_TRUE(std::isfinite(score));
  EXPECT_GT(score, 1);
}

TEST(PeakModel, OneImageIsTooFew) {
  const std::string message =
      test::message_of<std::invalid_argument>([] { alone(good_peaks(1, 4, 1)); });
  EXPECT_TRUE(test::contains(message, "2") && test::contains(message, "1")) << message;
}

}  // namespace
}  // namespace convae::test_peak_model
