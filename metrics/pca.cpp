#include "convae/metrics/pca.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace convae {
namespace {

/// Side up to which the eigenvectors of a matrix are a matter of seconds.
constexpr std::int64_t kMaxMatrixSide = 2048;

/// Vectors that the randomised method carries beyond those wanted: the last ones converge slowly.
constexpr std::int64_t kSpareVectors = 16;
constexpr int kMaxPasses = 16;
/// It ends once a pass lowers the variance left by no more than this share.
constexpr double kLeastProgress = 2e-4;
constexpr std::uint64_t kSeed = 0;

/// Variances below this share of the largest are rounding.
constexpr double kRoundingShare = 1e-12;

/// Bytes of (rows, numbers) floats; saturates.
std::int64_t float_bytes(std::int64_t rows, std::int64_t numbers) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max() / 4;
  return rows > kMost / numbers ? std::numeric_limits<std::int64_t>::max() : 4 * rows * numbers;
}

/// Bytes of the randomised method: its vectors, their image, and what the factorisation takes.
std::int64_t randomised_bytes(std::int64_t numbers, std::int64_t components) {
  return float_bytes(3 * (components + kSpareVectors), numbers);
}

/// Eigenvalues of a symmetric matrix from the largest, and the eigenvectors as columns.
struct Eigen {
  torch::Tensor values, vectors;
};

Eigen largest_eigenvectors(const torch::Tensor& symmetric, std::int64_t count) {
  auto [values, vectors] = torch::linalg_eigh(symmetric, "L");  // ascending
  return {values.flip(0).narrow(0, 0, count), vectors.flip(1).narrow(1, 0, count)};
}

torch::Tensor orthonormal(const torch::Tensor& columns) {
  return std::get<0>(torch::linalg_qr(columns, "reduced"));
}

/// Sum over all rows of centredᵀ·centred; each block's in float, their sum in double.
torch::Tensor covariance_components(const RowSource& source, const torch::Tensor& mean,
                                    std::int64_t components) {
  torch::Tensor sum = torch::zeros({source.numbers, source.numbers}, torch::kDouble);
  source.for_each_block([&](const torch::Tensor& rows) {
    const torch::Tensor centred = rows - mean;
    sum += centred.t().matmul(centred);
  });
  return largest_eigenvectors(sum, components).vectors.to(torch::kFloat);
}

/// With the rows X = U S Vᵀ: the Gram matrix X Xᵀ has the eigenvectors U, and V = Xᵀ U / S.
torch::Tensor gram_components(const RowSource& source, const RowStatistics& statistics,
                              std::int64_t components) {
  torch::Tensor rows = torch::empty({statistics.count, source.numbers});
  std::int64_t filled = 0;
  source.for_each_block([&](const torch::Tensor& block) {
    rows.narrow(0, filled, block.size(0)).copy_(block - statistics.mean);
    filled += block.size(0);
  });
  torch::Tensor gram = torch::zeros({rows.size(0), rows.size(0)}, torch::kDouble);
  for (const torch::Tensor& stripe : rows.split(/*split_size=*/4096, /*dim=*/1)) {
    const torch::Tensor exact = stripe.to(torch::kDouble);
    gram.addmm_(exact, exact.t());
  }
  const Eigen eigen = largest_eigenvectors(gram, std::min(components, rows.size(0)));
  const torch::Tensor is_real = eigen.values > kRoundingShare * eigen.values[0];
  const torch::Tensor vectors =
      eigen.vectors.index_select(1, is_real.nonzero().flatten()).to(torch::kFloat);
  // Scaling by 1 / S and, for the smallest of them, taking out what rounding has put in.
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
      at::randn({source.numbers, vectors}, at::detail::createCPUGenerator(kSeed), torch::kFloat));
  double left_before = std::numeric_limits<double>::infinity();
  for (int pass = 0;; ++pass) {
    torch::Tensor image = torch::zeros_like(basis);
    torch::Tensor within = torch::zeros({vectors, vectors}, torch::kDouble);
    source.for_each_block([&](const torch::Tensor& rows) {
      const torch::Tensor centred = rows - statistics.mean;
      const torch::Tensor coordinates = centred.matmul(basis);
      image.addmm_(centred.t(), coordinates);
      within += coordinates.t().matmul(coordinates);
    });
    const Eigen best = largest_eigenvectors(within, std::min(components, vectors));
    const double left = total - best.values.sum().item<double>();
    if (left >= (1 - kLeastProgress) * left_before || pass == kMaxPasses) {
      return basis.matmul(best.vectors.to(torch::kFloat));
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
  torch::Tensor sum = torch::zeros({source.numbers}, torch::kDouble);
  torch::Tensor square_sum = torch::zeros({source.numbers}, torch::kDouble);
  // Around a point among the rows fewer digits cancel than around zero.
  torch::Tensor origin;
  source.for_each_block([&](const torch::Tensor& rows) {
    if (!origin.defined()) origin = rows.mean(0).to(torch::kDouble);
    const torch::Tensor shifted = rows.to(torch::kDouble) - origin;
    sum += shifted.sum(0);
    square_sum += shifted.square().sum(0);
    statistics.count += rows.size(0);
  });
  if (statistics.count == 0) return statistics;
  const torch::Tensor mean = sum / statistics.count;
  statistics.mean = (origin + mean).to(torch::kFloat);
  statistics.variance = (square_sum / statistics.count - mean.square()).sum().item<double>();
  return statistics;
}

std::optional<PcaMethod> choose_pca_method(std::int64_t rows, std::int64_t numbers,
                                           std::int64_t components) {
  // Around their mean, N rows spread in N - 1 directions.
  if (components >= rows || components >= numbers) return std::nullopt;
  if (float_bytes(components, numbers) > kMaxPcaBytes) return std::nullopt;
  if (numbers <= std::min(rows, kMaxMatrixSide)) return PcaMethod::covariance;
  if (rows <= kMaxMatrixSide && float_bytes(rows, numbers) <= kMaxPcaBytes) return PcaMethod::gram;
  if (randomised_bytes(numbers, components) > kMaxPcaBytes) return std::nullopt;
  return PcaMethod::randomised;
}

std::string why_no_pca(std::int64_t rows, std::int64_t numbers, std::int64_t components) {
  const std::string pca = "PCA with " + std::to_string(components) + " numbers";
  if (components >= numbers) {
    return pca + " would give every image of " + std::to_string(numbers) + " numbers back as it is";
  }
  if (components >= rows) {
    return pca + " needs more than " + std::to_string(components) +
           " training images, but there are " + std::to_string(rows);
  }
  return pca + " of images of " + std::to_string(numbers) + " numbers takes more than " +
         std::to_string(kMaxPcaBytes >> 20) + " MiB; try a smaller --size";
}

torch::Tensor Pca::project(const torch::Tensor& rows) const {
  const torch::Tensor coordinates = (rows - mean).matmul(components);
  return torch::addmm(mean, coordinates, components.t());
}

Pca fit_pca(const RowSource& source, const RowStatistics& statistics, std::int64_t components,
            PcaMethod method) {
  const torch::NoGradGuard no_grad;
  Pca pca{statistics.mean, {}};
  switch (method) {
    case PcaMethod::covariance:
      pca.components = covariance_components(source, statistics.mean, components);
      break;
    case PcaMethod::gram:
      pca.components = gram_components(source, statistics, components);
      break;
    case PcaMethod::randomised:
      pca.components = randomised_components(source, statistics, components);
      break;
  }
  return pca;
}

}  // namespace convae
