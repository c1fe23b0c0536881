#include "convae/data/mat.h"
#include "convae/tests/support.h"

#include <opencv2/core.hpp>

namespace convae::test_mat {
namespace {

using test::contains;
using test::identical;
using test::message_of;
using test::noise;

TEST(Mat, ColoursChangeTheirOrderAndNothingElse) {
  const cv::Mat mat = (cv::Mat_<cv::Vec3b>(1, 2) << cv::Vec3b(1, 2, 3), cv::Vec3b(40, 50, 60));
  const torch::Tensor image = image_from_mat(mat);
  EXPECT_TRUE(identical(
      image, torch::tensor({3, 60, 2, 50, 1, 40}, torch::kInt).view({3, 1, 2}).to(torch::kUInt8)));
  EXPECT_EQ(cv::norm(mat_from_image(image), mat, cv::NORM_INF), 0);
}

TEST(Mat, GoesThereAndBackAgain) {
  for (const std::int64_t channels : {1, 3}) {
    const torch::Tensor image = noise(channels, 7, 4, /*seed=*/1);
    EXPECT_TRUE(identical(image_from_mat(mat_from_image(image)), image));
    const torch::Tensor deep = test::deep_noise(channels, 7, 4, /*seed=*/1);
    const cv::Mat mat = mat_from_image(deep);
    EXPECT_EQ(mat.depth(), CV_16U);
    EXPECT_TRUE(identical(image_from_mat(mat), deep));
  }
}

TEST(Mat, APartOfAnImageIsAnImage) {
  const torch::Tensor image = noise(3, 9, 8, /*seed=*/2);
  const cv::Mat part = mat_from_image(image)(cv::Rect(2, 1, 5, 6));
  EXPECT_TRUE(identical(image_from_mat(part), image.narrow(1, 1, 6).narrow(2, 2, 5)));
  EXPECT_TRUE(
      identical(image_from_mat(mat_from_image(image.narrow(2, 2, 5))), image.narrow(2, 2, 5)));
}

TEST(Mat, TheTensorIsACopyInTheLayoutThatBatchesHave) {
  cv::Mat mat(3, 4, CV_8UC3, cv::Scalar(9, 9, 9));
  const torch::Tensor image = image_from_mat(mat);
  mat = cv::Scalar(0, 0, 0);
  EXPECT_EQ(image.to(torch::kInt).sum().item<int>(), 9 * 36);
  EXPECT_TRUE(image.unsqueeze(0).is_contiguous(torch::MemoryFormat::ChannelsLast));
}

TEST(Mat, OthersAreRefusedByName) {
  const auto refused = [](const cv::Mat& mat) {
    return message_of<std::invalid_argument>([&] { image_from_mat(mat); });
  };
  EXPECT_TRUE(contains(refused(cv::Mat(2, 2, CV_8UC4)), "CV_8UC4"));
  EXPECT_TRUE(contains(refused(cv::Mat(2, 2, CV_32FC1)), "CV_32FC1"));
  EXPECT_TRUE(contains(refused(cv::Mat()), "0 dimensions"));
  const auto no_image = [](const torch::Tensor& image) {
    return message_of<std::invalid_argument>([&] { mat_from_image(image); });
  };
  EXPECT_TRUE(contains(no_image(torch::zeros({2, 5, 4}, torch::kUInt8)), "(2, 5, 4)"));
  EXPECT_TRUE(contains(no_image(torch::zeros({3, 5, 4})), "Float"));
  EXPECT_TRUE(contains(no_image(torch::zeros({3, 0, 4}, torch::kUInt8)), "(3, 0, 4)"));
}

}  // namespace
}  // namespace convae::test_mat
