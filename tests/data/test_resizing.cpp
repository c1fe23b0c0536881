#include "convae/data/image_io.h"
#include "convae/tests/support.h"

#include <algorithm>

namespace convae::test_resizing {
namespace {

using test::deep_noise;
using test::difference;
using test::noise;

TEST(Resizing, TakesTheMeanWhereBothSidesHalve) {
  for (const int channels : {1, 3}) {
    for (const auto& image : {noise(channels, 26, 38, 7), deep_noise(channels, 26, 38, 7)}) {
      const auto mean = at::avg_pool2d(image.to(torch::kFloat64), {2, 2});
      const auto small = resize_image(image, 13, 19);
      EXPECT_EQ(small.scalar_type(), image.scalar_type());
      EXPECT_LE(difference(small, mean), 0.5) << image.scalar_type() << ' ' << channels;
    }
  }
}

TEST(Resizing, TakesTheMeanOfUnevenShares) {
  const auto image = noise(3, 7, 10, 7);
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
  EXPECT_LE(difference(resize_image(image, 3, 4), expected), 0.51);  // OpenCV works in float
}

TEST(Resizing, FiltersEachAxisByItsOwnDirection) {
  const auto image = noise(1, 8, 5, 7);
  const auto tall = resize_image(image, 4, 10);  // rows shrink, columns grow
  const auto halved =
      at::avg_pool2d(image.to(torch::kFloat64), /*kernel_size=*/{2, 1}, /*stride=*/{2, 1});
  // Linear at twice the size: 3/4 of the nearer, 1/4 of the farther column.
  const auto inner = 0.75 * halved.slice(2, 1, 4) + 0.25 * halved.slice(2, 0, 3);
  EXPECT_LE(difference(tall.slice(2, 2, 8, /*step=*/2), inner), 1.01);  // rounded twice
}

TEST(Resizing, WorksAtTheSmallestAndTheLongest) {
  EXPECT_EQ(resize_image(noise(3, 1, 1, 7), 5, 7).sizes(), (at::IntArrayRef{3, 5, 7}));
  EXPECT_EQ(resize_image(deep_noise(3, 4000, 1, 7), 1, 1).sizes(), (at::IntArrayRef{3, 1, 1}));
  EXPECT_EQ(resize_image(noise(1, 1, 4000, 7), 64, 64).sizes(), (at::IntArrayRef{1, 64, 64}));
  const auto image = noise(3, 9, 8, 7);
  EXPECT_TRUE(torch::equal(resize_image(image, 9, 8), image));
}

}  // namespace
}  // namespace convae::test_resizing
