#include "convae/inspection/locations.h"
#include "convae/tests/support.h"

#include <opencv2/core.hpp>

namespace convae::test_locations {
namespace {

using Grid = LocationStatistics::Grid;

TEST(Places, GatherMeansAndSpreadStraightLines) {
  for (const std::int64_t length : {1, 2, 5, 31, 32, 33, 79, 80, 97, 400}) {
    const Places places(length);
    const torch::Tensor ones = torch::ones({length});
    EXPECT_LT(test::difference(places.gather.matmul(ones), torch::ones({Places::kPlaces})), 1e-5);
    EXPECT_LT(test::difference(places.spread.matmul(torch::ones({Places::kPlaces})), ones), 1e-6);
    EXPECT_GE(places.gather.min().item<float>(), 0);
    EXPECT_GE(places.spread.min().item<float>(), 0);
  }
}

TEST(Places, ARampComesBack) {
  for (const std::int64_t length : {80, 200, 401}) {
    const Places places(length);
    const torch::Tensor ramp = torch::arange(length, torch::kFloat);
    const torch::Tensor back = places.spread.matmul(places.gather.matmul(ramp));
    // Straight but where places change their width, and flat in the last half place.
    const torch::Tensor off = (back - ramp).abs();
    EXPECT_LT(off.max().item<float>(), static_cast<float>(length) / 32) << length;
    EXPECT_LT(off.narrow(0, 2, 26).max().item<float>(), 1e-3) << length;
  }
}

TEST(Places, BordersAreCountedInPixels) {
  // The first pixels of a short side and of a long one are at the same places.
  const Places small(120), large(500);
  EXPECT_TRUE(torch::equal(small.gather.narrow(0, 0, 8).narrow(1, 0, 32),
                           large.gather.narrow(0, 0, 8).narrow(1, 0, 32)));
  EXPECT_TRUE(torch::equal(small.gather.narrow(0, 24, 8).narrow(1, 88, 32),
                           large.gather.narrow(0, 24, 8).narrow(1, 468, 32)));
}

TEST(Places, AreTheSameFromBothEnds) {
  for (const std::int64_t length : {7, 100, 333}) {
    const torch::Tensor spread = Places(length).spread;
    EXPECT_LT(test::difference(spread, spread.flip({0, 1})), 1e-5) << length;
  }
}

TEST(LocationStatistics, AnImageIsNotComparedWithItsOwnFold) {
  LocationStatistics statistics(1, 2);
  const Grid small(cv::Size(8, 8));
  statistics.add(0, cv::Mat(8, 8, CV_32F, cv::Scalar(1)), small, 0);
  statistics.count(0);
  statistics.add(0, cv::Mat(8, 8, CV_32F, cv::Scalar(3)), small, 1);
  statistics.count(1);
  statistics.prepare(/*without_fold=*/0);
  const cv::Mat three(5, 7, CV_32F, cv::Scalar(3));
  const Grid grid(three.size());
  EXPECT_NEAR(cv::norm(statistics.standardise(0, three, grid), cv::NORM_INF), 0, 0.1);
  statistics.prepare(LocationStatistics::kTrainingFold);
  // Of 1 and 3 the mean is 2 and the deviation 1, and a tenth of the mean deviation is added.
  EXPECT_NEAR(statistics.standardise(0, three, grid).at<float>(2, 3), 1 / 1.1, 1e-3);
}

TEST(Peak, IsTheMeanOfTheHighestThousandth) {
  cv::Mat map(100, 60, CV_32F);
  for (int i = 0; i < 6000; ++i) map.at<float>(i / 60, i % 60) = static_cast<float>((i * 7) % 6000);
  EXPECT_DOUBLE_EQ(peak(map), 5996.5) << "5994 to 5999";
  EXPECT_DOUBLE_EQ(peak(cv::Mat(1, 1, CV_32F, cv::Scalar(3))), 3);
  EXPECT_DOUBLE_EQ(peak(cv::Mat(2, 5, CV_32F, cv::Scalar(-1))), -1);
}

TEST(Peak, OfAnyMapIsThatOfTheSortedValues) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    torch::Tensor values = test::gaussian({90, 101}, seed);
    if (seed % 2 == 0) values.narrow(0, 0, 3).narrow(1, 0, 3) += 50;  // all in one place
    if (seed % 5 == 0) values = values.round();
    const cv::Mat map(90, 101, CV_32F, values.data_ptr());
    const torch::Tensor highest = std::get<0>(values.flatten().topk(9));
    EXPECT_NEAR(peak(map), highest.to(torch::kDouble).mean().item<double>(), 1e-6) << seed;
  }
}

}  // namespace
}  // namespace convae::test_locations
