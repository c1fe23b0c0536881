#include "convae/metrics/pca.h"
#include "convae/tests/support.h"

namespace convae::test_pca {
namespace {

using test::contains;
using test::difference;

/// Rows in a cloud whose variance falls off from direction to direction, around a mean of its own.
torch::Tensor cloud(std::int64_t rows, std::int64_t numbers, std::uint64_t seed = 1) {
  const torch::Tensor turned =
      std::get<0>(torch::linalg_qr(test::gaussian({numbers, numbers}, seed + 1), "reduced"));
  const torch::Tensor deviations = torch::arange(1, numbers + 1).to(torch::kFloat).pow(-1.0);
  return (test::gaussian({rows, numbers}, seed) * deviations).matmul(turned) +
         test::uniform({numbers}, seed + 2);
}

/// Blocks of different lengths, the last ones short.
RowSource source_of(const torch::Tensor& rows) {
  RowSource source{rows.size(0), rows.size(1), {}};
  source.for_each_block = [rows](const std::function<void(const torch::Tensor&)>& take) {
    for (std::int64_t begin = 0, length = 37; begin < rows.size(0); begin += length) {
      take(rows.slice(0, begin, std::min(begin + length, rows.size(0))));
    }
  };
  return source;
}

Pca fit(const torch::Tensor& rows, std::int64_t components, PcaMethod method) {
  const RowSource source = source_of(rows);
  return fit_pca(source, row_statistics(source), components, method);
}

/// What the definition says: the best approximation of that rank around the mean, in double.
torch::Tensor exact_projection(const torch::Tensor& fitted, const torch::Tensor& rows,
                               std::int64_t components) {
  const torch::Tensor x = fitted.to(torch::kDouble);
  const torch::Tensor mean = x.mean(0);
  const auto [u, s, vh] = torch::linalg_svd(x - mean, /*full_matrices=*/false);
  const torch::Tensor v = vh.narrow(0, 0, components).t();
  return mean + (rows.to(torch::kDouble) - mean).matmul(v).matmul(v.t());
}

double mean_squared(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kDouble) - b.to(torch::kDouble)).square().mean().item<double>();
}

TEST(RowStatistics, AreMeanAndVariance) {
  const torch::Tensor rows = cloud(100, 12) + 100;
  const RowStatistics found = row_statistics(source_of(rows));
  EXPECT_EQ(found.count, 100);
  EXPECT_LT(difference(found.mean, rows.to(torch::kDouble).mean(0)), 1e-5);
  const double expected = rows.to(torch::kDouble).var(0, /*unbiased=*/false).sum().item<double>();
  EXPECT_NEAR(found.variance, expected, 1e-6 * expected);
}

TEST(RowStatistics, OfNoRowsCountNone) {
  EXPECT_EQ(row_statistics(source_of(torch::empty({0, 3}))).count, 0);
}

TEST(Pca, EveryMethodIsTheExactSvd) {
  struct Case {
    std::int64_t rows, numbers, components;
  };
  for (const Case& c : {Case{200, 40, 7}, Case{60, 150, 7}, Case{60, 150, 59}, Case{200, 40, 39}}) {
    const torch::Tensor rows = cloud(c.rows, c.numbers);
    const torch::Tensor fresh = cloud(50, c.numbers, /*seed=*/9);
    for (const PcaMethod method : {PcaMethod::covariance, PcaMethod::gram, PcaMethod::randomised}) {
      const Pca pca = fit(rows, c.components, method);
      SCOPED_TRACE(testing::Message() << to_string(method) << " " << c.rows << "x" << c.numbers
                                      << ", " << c.components);
      EXPECT_EQ(pca.components.sizes(), (std::vector<std::int64_t>{c.numbers, c.components}));
      EXPECT_LT(difference(pca.components.t().matmul(pca.components), torch::eye(c.components)),
                1e-5);
      for (const torch::Tensor& x : {rows, fresh}) {
        const torch::Tensor expected = exact_projection(rows, x, c.components);
        const double left = mean_squared(expected, x);
        EXPECT_NEAR(mean_squared(pca.project(x), x), left, 2e-3 * left + 1e-9);
      }
      const torch::Tensor expected = exact_projection(rows, rows, c.components);
      if (method != PcaMethod::randomised) {
        EXPECT_LT(difference(pca.project(rows), expected), 1e-4);
      }
    }
  }
}

TEST(Pca, FirstComponentIsTheDirectionOfLargestVariance) {
  const torch::Tensor direction = torch::nn::functional::normalize(
      torch::arange(1, 31).to(torch::kFloat), torch::nn::functional::NormalizeFuncOptions().dim(0));
  const torch::Tensor rows =
      test::gaussian({300, 1}, 2) * direction + 0.01 * test::gaussian({300, 30}, 3);
  for (const PcaMethod method : {PcaMethod::covariance, PcaMethod::gram, PcaMethod::randomised}) {
    const torch::Tensor first = fit(rows, 3, method).components.select(1, 0);
    EXPECT_NEAR(std::abs(first.dot(direction).item<double>()), 1, 1e-4) << to_string(method);
  }
}

TEST(Pca, OfRowsThatSpanLessHasNoMoreThanTheyHave) {
  // Three directions, and as many rows as components.
  const torch::Tensor rows = test::gaussian({30, 3}, 4).matmul(test::gaussian({3, 50}, 5));
  for (const PcaMethod method : {PcaMethod::covariance, PcaMethod::gram, PcaMethod::randomised}) {
    const Pca pca = fit(rows, 10, method);
    EXPECT_LT(mean_squared(pca.project(rows), rows), 1e-9) << to_string(method);
    EXPECT_TRUE(torch::isfinite(pca.components).all().item<bool>());
  }
}

TEST(Pca, IsTheSameEveryTime) {
  const torch::Tensor rows = cloud(60, 150);
  for (const PcaMethod method : {PcaMethod::covariance, PcaMethod::gram, PcaMethod::randomised}) {
    EXPECT_TRUE(test::identical(fit(rows, 5, method).components, fit(rows, 5, method).components));
  }
}

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

TEST(PcaMethod, IsTheOneWithTheSmallerMatrix) {
  EXPECT_EQ(choose_pca_method(60'000, 784, 64, kGiB), PcaMethod::covariance);
  EXPECT_EQ(choose_pca_method(180, 65'536, 64, kGiB), PcaMethod::gram);
  EXPECT_EQ(choose_pca_method(500, 784, 64, kGiB), PcaMethod::gram);
  EXPECT_EQ(choose_pca_method(50'000, 3'072, 64, kGiB), PcaMethod::randomised);
  EXPECT_EQ(choose_pca_method(1'000, 65'536, 64, kGiB / 4), PcaMethod::gram);
}

TEST(PcaMethod, SaysWhyThereIsNone) {
  const auto reason = [](std::int64_t rows, std::int64_t numbers, std::int64_t components) {
    EXPECT_FALSE(choose_pca_method(rows, numbers, components, kGiB).has_value());
    return why_no_pca(rows, numbers, components, kGiB);
  };
  EXPECT_TRUE(
      contains(reason(64, 784, 64), "needs more than 64 training images, but there are 64"));
  EXPECT_TRUE(contains(reason(9'000, 784, 784), "as it is"));
  EXPECT_TRUE(contains(reason(1'000'000, 3'000'000, 4'608), "1024 MiB; try a smaller --size"));
  const std::string short_of_memory = why_no_pca(1'000, 65'536, 64, kGiB / 8);
  EXPECT_FALSE(choose_pca_method(1'000, 65'536, 64, kGiB / 8).has_value());
  EXPECT_TRUE(contains(short_of_memory, "128 MiB, a quarter of the free memory"))
      << short_of_memory;
  // Products that do not fit 64 bits.
  EXPECT_TRUE(contains(reason(std::int64_t{1} << 60, std::int64_t{1} << 59, 1 << 20), "MiB"));
}

TEST(RowsOfImages, AndBack) {
  const torch::Tensor images =
      test::uniform({2, 3, 4, 5}, 6).contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor rows = rows_of_images(images);
  EXPECT_EQ(rows.sizes(), (std::vector<std::int64_t>{2, 60}));
  EXPECT_EQ(rows.data_ptr(), images.data_ptr());  // no copy
  EXPECT_TRUE(torch::equal(images_of_rows(rows, images), images));
}

}  // namespace
}  // namespace convae::test_pca
