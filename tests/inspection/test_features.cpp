#include "convae/core/size.h"
#include "convae/inspection/features.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace convae::test_features {
namespace {

using Planes = std::vector<cv::Mat>;  // CV_64F, of each channel

Planes planes_of(const torch::Tensor& image) {
  Planes planes;
  for (std::int64_t c = 0; c < image.size(0); ++c) {
    const torch::Tensor plane = image[c].to(torch::kDouble).contiguous();
    planes.push_back(cv::Mat(static_cast<int>(plane.size(0)), static_cast<int>(plane.size(1)),
                             CV_64F, plane.data_ptr())
                         .clone());
  }
  return planes;
}

torch::Tensor tensor_of(const Planes& planes) {
  std::vector<torch::Tensor> all;
  for (const cv::Mat& plane : planes) {
    all.push_back(torch::from_blob(plane.data, {plane.rows, plane.cols}, torch::kDouble).clone());
  }
  return torch::stack(all);
}

cv::Mat blurred(const cv::Mat& plane, double sigma) {
  const int side = 2 * static_cast<int>(std::ceil(3 * sigma)) + 1;
  cv::Mat result;
  cv::GaussianBlur(plane, result, {side, side}, sigma, sigma, cv::BORDER_REPLICATE);
  return result;
}

cv::Mat gradient(const cv::Mat& plane, bool down) {
  const cv::Mat row = (cv::Mat_<double>(1, 3) << -0.5, 0, 0.5);
  cv::Mat result;
  cv::filter2D(plane, result, -1, down ? cv::Mat(row.t()) : row, {-1, -1}, 0, cv::BORDER_REPLICATE);
  return cv::abs(result);
}

/// Of colours the largest, not yet divided.
Planes raw_maps_of(const Planes& planes) {
  Planes maps;
  for (const cv::Mat& plane : planes) {
    const cv::Mat fine = blurred(plane, 1);
    cv::Mat rough = plane - fine;
    cv::sqrt(blurred(rough.mul(rough), 2.5), rough);
    const Planes own = {gradient(fine, true), gradient(fine, false), rough};
    if (maps.empty()) maps = own;
    for (std::size_t i = 0; i < own.size(); ++i) maps[i] = cv::max(maps[i], own[i]);
  }
  return maps;
}

Planes maps_of(const Planes& planes, double brightness) {
  const Planes raw = raw_maps_of(planes);
  Planes all;
  for (const cv::Mat& map : raw) all.push_back(map / std::max(cv::mean(map)[0], 1e-4));
  for (const cv::Mat& map : raw) all.push_back(map / std::max(brightness, 1e-4));
  return all;
}

/// Means of 2 × 2 pixels, of what is there of them at the end of odd sides.
cv::Mat halved(const cv::Mat& plane) {
  cv::Mat result((plane.rows + 1) / 2, (plane.cols + 1) / 2, CV_64F);
  for (int y = 0; y < result.rows; ++y) {
    for (int x = 0; x < result.cols; ++x) {
      const cv::Range rows(2 * y, std::min(2 * y + 2, plane.rows));
      const cv::Range columns(2 * x, std::min(2 * x + 2, plane.cols));
      result.at<double>(y, x) = cv::mean(plane(rows, columns))[0];
    }
  }
  return result;
}

const Size kSizes[] = {{1, 1}, {1, 9}, {2, 3}, {7, 5}, {16, 16}, {33, 20}, {40, 97}};

TEST(TextureMaps, AreWhatOpenCvMakesAtAnySize) {
  for (const std::int64_t channels : {1, 3}) {
    for (const Size size : kSizes) {
      const torch::Tensor image = test::uniform({channels, size.h, size.w}, 3);
      const Pyramid found = texture_maps(image, 0.4);
      ASSERT_EQ(found.size(), 5U);
      Planes planes = planes_of(image);
      for (int level = 1; level < 6; ++level) {
        for (cv::Mat& plane : planes) plane = halved(plane);
        const LevelMaps& maps = found[static_cast<std::size_t>(level - 1)];
        const torch::Tensor found_maps = maps.maps();
        EXPECT_EQ(found_maps.scalar_type(), torch::kFloat);
        const torch::Tensor expected = tensor_of(maps_of(planes, 0.4)).to(torch::kFloat);
        ASSERT_EQ(found_maps.sizes(), expected.sizes()) << to_string(size) << " " << level;
        EXPECT_TRUE(torch::allclose(found_maps, expected, 1e-3, 2e-3))
            << to_string(size) << " level " << level << ": "
            << test::difference(found_maps, expected);
      }
    }
  }
}

TEST(TextureMaps, OfAResidualAsOfAnImage) {
  const torch::Tensor residual = 0.1 * test::gaussian({1, 24, 30}, 4);
  Planes planes = planes_of(residual);
  for (cv::Mat& plane : planes) plane = halved(plane);
  const torch::Tensor expected = tensor_of(maps_of(planes, 0.5)).to(torch::kFloat);
  EXPECT_LT(test::difference(texture_maps(residual, 0.5)[0].maps(), expected), 1e-3);
  EXPECT_LT(test::difference(texture_maps(-residual, 0.5)[0].maps(), expected), 1e-3);
}

TEST(TextureMaps, AnImageThatIsRoughEverywhereIsSoByBrightnessAlone) {
  const torch::Tensor grain = test::gaussian({1, 32, 40}, 5);
  const torch::Tensor fine = texture_maps(0.5 + 0.02 * grain, 0.5)[0].maps();
  const torch::Tensor rough = texture_maps(0.5 + 0.06 * grain, 0.5)[0].maps();
  EXPECT_TRUE(torch::allclose(rough.slice(0, 0, kRawMaps), fine.slice(0, 0, kRawMaps), 1e-2, 1e-2));
  EXPECT_TRUE(torch::allclose(rough.slice(0, kRawMaps), 3 * fine.slice(0, kRawMaps), 1e-2, 1e-3));
}

TEST(TextureMaps, ABlackOrUniformImageHasNothing) {
  for (const float value : {0.0F, 0.3F, 0.7F, 1.0F}) {
    for (const Size size : {Size{21, 34}, Size{9, 70}, Size{1, 1}}) {
      for (const LevelMaps& maps : texture_maps(torch::full({3, size.h, size.w}, value), value)) {
        EXPECT_TRUE(maps.gains.isfinite().all().item<bool>());
        EXPECT_EQ(maps.maps().abs().max().item<float>(), 0) << value << ": not even rounding";
      }
    }
  }
}

TEST(DetectorLogits, AreThoseOfTheMapWithinBounds) {
  const torch::Tensor logits = torch::tensor({-5.5, -1.0, 0.0, 2.0, 5.9});
  EXPECT_LT(test::difference(logits_of(logits.sigmoid()), logits), 1e-4);
  EXPECT_LT(test::difference(logits_of(torch::tensor({0.0, 1.0})), torch::tensor({-6.0, 6.0})),
            1e-4);
}

TEST(MeanMaps, AreMeansAtEachLevel) {
  for (const Size size : kSizes) {
    const torch::Tensor map = test::uniform({1, size.h, size.w}, 6);
    const Pyramid found = mean_maps(map);
    ASSERT_EQ(found.size(), 5U);
    cv::Mat plane = planes_of(map)[0];
    for (int level = 1; level < 6; ++level) {
      plane = halved(plane);
      const LevelMaps& maps = found[static_cast<std::size_t>(level - 1)];
      EXPECT_LT(test::difference(maps.maps(), tensor_of({plane})), 1e-6) << to_string(size);
    }
  }
}

}  // namespace
}  // namespace convae::test_features
