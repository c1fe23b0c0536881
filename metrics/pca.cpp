#include "convae/metrics/pca.h"

#include "convae/core/machine.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace convae {
namespace {

/// Largest side of a matrix whose eigenvectors take only seconds.
constexpr std::int64_t kMaxMatrixSide = 2048;

/// Extra vectors of the randomised method, since the last ones converge slowly.
constexpr std::int64_t kSpareVectors = 16;
constexpr int kMaxPasses = 16;
/// It ends after a pass that lowers the variance left by no more than this share.
constexpr double kLeastProgress = 2e-4;
constexpr std::uint64_t kSeed = 0;

constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;

/// Variances below this share of the largest are rounding.
constexpr double kRoundingShare = 1e-12;

/// Eigenvalues of a symmetric matrix from the largest, and the eigenvectors as columns.
struct Eigen {
  torch::Tensor values, vectors;
};

Eigen largest_eigenvectors(const torch::Tensor& symmetric, std::int64_t count) {
  auto [values, vectors] = at::linalg_eigh(symmetric, "L");  // ascending
  return {values.flip(0).narrow(0, 0, count), vectors.flip(1).narrow(1, 0, count)};
}

torch::Tensor orthonormal(const torch::Tensor& columns) {
  return std::get<0>(at::linalg_qr(columns, "reduced"));
}

/// Sum over all rows of centredᵀ·centred; each block's in float, their sum in double.
torch::Tensor covariance_components(const RowSource& source, const RowStatistics& statistics,
                                    std::int64_t components) {
  torch::Tensor sum = at::zeros({source.numbers, source.numbers}, at::kDouble);
  source.for_each_block([&](const torch::Tensor& rows) {
    const torch::Tensor centred = rows - statistics.mean;
    sum += centred.t().matmul(centred);
  });
  return largest_eigenvectors(sum, components).vectors.to(at::kFloat);
}

/// With the rows X = U S Vᵀ: the Gram matrix X Xᵀ has the eigenvectors U, and V = Xᵀ U / S.
torch::Tensor gram_components(const RowSource& source, const RowStatistics& statistics,
                              std::int64_t components) {
  torch::Tensor rows = at::empty({statistics.count, source.numbers});
  std::int64_t filled = 0;
  source.for_each_block([&](const torch::Tensor& block) {
    rows.narrow(0, filled, block.size(0)).copy_(block - statistics.mean);
    filled += block.size(0);
  });
  torch::Tensor gram = at::zeros({rows.size(0), rows.size(0)}, at::kDouble);
  for (const torch::Tensor& stripe : rows.split(/*split_size=*/4096, /*dim=*/1)) {
    const torch::Tensor exact = stripe.to(at::kDouble);
    gram.addmm_(exact, exact.t());
  }
  const Eigen eigen = largest_eigenvectors(gram, std::min(components, rows.size(0)));
  const torch::Tensor is_real = eigen.values > kRoundingShare * eigen.values[0];
  const torch::Tensor vectors =
      eigen.vectors.index_select(1, is_real.nonzero().flatten()).to(at::kFloat);
  // This scales by 1 / S and takes rounding errors out of the smallest vectors.
  return orthonormal(rows.t().matmul(vectors));
}

/// Subspace iteration (Halko, Martinsson & Tropp 2011, https://doi.org/10.1137/090771806,
/// algorithm 4.4), each pass taking the best vectors within the subspace as it goes.
torch::Tensor randomised_components(const RowSource& source, const RowStatistics& statistics,
                                    std::int64_t components) {
  const std::int64_t vectors =
      std::min({components + kSpareVectors, source.numbers, statistics.count});
  const double total = statistics.variance * static_cast<double>(statistics.count);
  torch::Tensor basis = orthonormal(
      at::randn({source.numbers, vectors}, at::detail::createCPUGenerator(kSeed), at::kFloat));
  double left_before = std::numeric_limits<double>::infinity();
  for (int pass = 0;; ++pass) {
    torch::Tensor image = at::zeros_like(basis);
    torch::Tensor within = at::zeros({vectors, vectors}, at::kDouble);
    source.for_each_block([&](const torch::Tensor& rows) {
      const torch::Tensor centred = rows - statistics.mean;
      const torch::Tensor coordinates = centred.matmul(basis);
      image.addmm_(centred.t(), coordinates);
      within += coordinates.t().matmul(coordinates);
    });
    const Eigen best = largest_eigenvectors(within, std::min(components, vectors));
    const double left = total - best.values.sum().item<double>();
    if (left >= (1 - kLeastProgress) * left_before || pass == kMaxPasses) {
      return basis.matmul(best.vectors.to(at::kFloat));
    }
    left_before = left;
    basis = orthonormal(image);
  }
}

}  // namespace

torch::Tensor rows_of_images(const torch::Tensor& images) {
  return images.permute({0, 2, 3, 1}).reshape({images.size(0), -1});
}

torch::Tensor images_of_rows(const torch::Tensor& rows, const torch::Tensor& like) {
  return rows.view({rows.size(0), like.size(2), like.size(3), like.size(1)}).permute({0, 3, 1, 2});
}

RowStatistics row_statistics(const RowSource& source) {
  RowStatistics statistics;
  torch::Tensor sum = at::zeros({source.numbers}, at::kDouble);
  torch::Tensor square_sum = at::zeros({source.numbers}, at::kDouble);
  // Around a point among the rows fewer digits cancel than around zero.
  torch::Tensor origin;
  source.for_each_block([&](const torch::Tensor& rows) {
    if (!origin.defined()) origin = rows.mean(0);
    torch::Tensor shifted = rows - origin;
    sum += shifted.sum(0, /*keepdim=*/false, at::kDouble);
    square_sum += shifted.square_().sum(0, /*keepdim=*/false, at::kDouble);
    statistics.count += rows.size(0);
  });
  if (statistics.count == 0) return statistics;
  const torch::Tensor mean = sum / statistics.count;
  statistics.mean = (origin + mean).to(at::kFloat);
  statistics.variance = (square_sum / statistics.count - mean.square()).sum().item<double>();
  return statistics;
}

std::int64_t pca_bytes() {
  const std::int64_t free = free_memory_bytes();
  return free > 0 ? std::min(kMostBytes, free / 4) : kMostBytes;
}

std::optional<PcaMethod> choose_pca_method(std::int64_t rows, std::int64_t numbers,
                                           std::int64_t components, std::int64_t most_bytes) {
  // Around their mean, N rows spread in N - 1 directions.
  if (components >= rows || components >= numbers) return std::nullopt;
  const auto bytes_of = [&](double vectors) { return vectors * numbers * sizeof(float); };
  // The choice itself must not depend on what is free: results would.
  PcaMethod method = PcaMethod::randomised;
  // Its vectors, their image, and the factorisation's workspace.
  double bytes = bytes_of(3 * (components + kSpareVectors));
  if (numbers <= std::min(rows, kMaxMatrixSide)) {
    method = PcaMethod::covariance;
    bytes = bytes_of(components);
  } else if (rows <= kMaxMatrixSide && bytes_of(rows) <= kMostBytes) {
    method = PcaMethod::gram;
    bytes = bytes_of(rows);
  }
  return bytes <= most_bytes ? std::optional(method) : std::nullopt;
}

std::string why_no_pca(std::int64_t rows, std::int64_t numbers, std::int64_t components,
                       std::int64_t most_bytes) {
  const std::string pca = fmt::format("PCA with {} numbers", components);
  if (components >= numbers) {
    return fmt::format("{} would give every image of {} numbers back as it is", pca, numbers);
  }
  if (components >= rows) {
    return fmt::format("{} needs more than {} training images, but there are {}", pca, components,
                       rows);
  }
  return fmt::format("{} of images of {} numbers takes more than {} MiB{}; try a smaller --size",
                     pca, numbers, most_bytes >> 20,
                     most_bytes < kMostBytes ? ", a quarter of the free memory" : "");
}

torch::Tensor Pca::project(const torch::Tensor& rows) const {
  const torch::Tensor coordinates = (rows - mean).matmul(components);
  return at::addmm(mean, coordinates, components.t());
}

Pca fit_pca(const RowSource& source, const RowStatistics& statistics, std::int64_t components,
            PcaMethod method) {
  const at::NoGradGuard no_grad;
  const auto find = method == PcaMethod::covariance ? covariance_components
                    : method == PcaMethod::gram     ? gram_components
                                                    : randomised_components;
  return {statistics.mean, find(source, statistics, components)};
}

}  // namespace convae
