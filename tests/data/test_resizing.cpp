#include "convae/data/image_io.h"
#include "convae/tests/support.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <algorithm>

namespace convae::test_resizing {
namespace {

torch::Tensor noise(std::int64_t channels, std::int64_t height, std::int64_t width, int bits) {
  const torch::Tensor bytes = test::noise(channels, height, width, /*seed=*/7);
  return bits == 8 ? bytes : test::as_int(bytes).mul(257).to(torch::kUInt16);
}

TEST(Resizing, TakesTheMeanWhereBothSidesHalve) {
  for (const int bits : {8, 16}) {
    for (const int channels : {1, 3}) {
      const auto image = noise(channels, 26, 38, bits);
      const auto mean = at::avg_pool2d(image.to(torch::kInt32).to(torch::kFloat64), {2, 2});
      const auto small = resize_image(image, 13, 19);
      EXPECT_EQ(small.scalar_type(), image.scalar_type());
      const auto error = (small.to(torch::kInt32).to(torch::kFloat64) - mean).abs().max();
      EXPECT_LE(error.item<double>(), 0.5) << bits << " bits, " << channels << " channels";
    }
  }
}

TEST(Resizing, TakesTheMeanOfUnevenShares) {
  const auto image = noise(3, 7, 10, 8);
  const auto from = image.to(torch::kFloat64);
  // Share of input row i in output row o: the overlap of [i, i+1) and [o, o+1) * 7/3.
  const auto shares = [](std::int64_t in, std::int64_t out) {
    auto matrix = torch::zeros({out, in}, torch::kFloat64);
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t i = 0; i < in; ++i) {
        const double from_edge = std::max<double>(static_cast<double>(i), o * scale);
        const double to_edge = std::min<double>(static_cast<double>(i + 1), (o + 1) * scale);
        matrix[o][i] = std::max(0.0, to_edge - from_edge) / scale;
      }
    }
    return matrix;
  };
  const auto expected = shares(7, 3).matmul(from).matmul(shares(10, 4).t());
  const auto error = (resize_image(image, 3, 4).to(torch::kFloat64) - expected).abs().max();
  EXPECT_LE(error.item<double>(), 0.51);  // OpenCV works in float
}

TEST(Resizing, FiltersEachAxisByItsOwnDirection) {
  const auto image = noise(1, 8, 5, 8);
  const auto tall = resize_image(image, 4, 10);  // rows shrink, columns grow
  const auto halved =
      at::avg_pool2d(image.to(torch::kFloat64), /*kernel_size=*/{2, 1}, /*stride=*/{2, 1});
  // Linear at twice the size: 3/4 of the nearer, 1/4 of the farther column.
  const auto inner = 0.75 * halved.slice(2, 1, 4) + 0.25 * halved.slice(2, 0, 3);
  const auto got = tall.to(torch::kFloat64).slice(2, 2, 8, /*step=*/2);
  EXPECT_LE((got - inner).abs().max().item<double>(), 1.01);  // rounded twice
}

TEST(Resizing, WorksAtTheSmallestAndTheLongest) {
  EXPECT_EQ(resize_image(noise(3, 1, 1, 8), 5, 7).sizes(), (std::vector<std::int64_t>{3, 5, 7}));
  EXPECT_EQ(resize_image(noise(3, 4000, 1, 16), 1, 1).sizes(),
            (std::vector<std::int64_t>{3, 1, 1}));
  EXPECT_EQ(resize_image(noise(1, 1, 4000, 8), 64, 64).sizes(),
            (std::vector<std::int64_t>{1, 64, 64}));
  const auto image = noise(3, 9, 8, 8);
  EXPECT_TRUE(torch::equal(resize_image(image, 9, 8), image));
}

}  // namespace
}  // namespace convae::test_resizing
