#pragma once

#include "convae/core/names.h"
#include "convae/core/tensor.h"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace convae {

/// Rows of numbers, too many to hold at once: images, read several times.
struct RowSource {
  std::int64_t count = 0;    ///< of rows; fewer may come if images turn out unusable
  std::int64_t numbers = 0;  ///< in a row
  /// Calls `take` with all rows in blocks, (n, numbers) float on the CPU, the same every time.
  std::function<void(const std::function<void(const torch::Tensor&)>& take)> for_each_block;
};

/// (N, C, H, W) images → (N, H·W·C) rows, without a copy where they are channels-last; and back.
torch::Tensor rows_of_images(const torch::Tensor& images);
torch::Tensor images_of_rows(const torch::Tensor& rows, const torch::Tensor& like);

/// From one pass over the rows.
struct RowStatistics {
  std::int64_t count = 0;
  torch::Tensor mean;   ///< (numbers) float
  double variance = 0;  ///< mean over the rows of the squared distance from the mean
};
RowStatistics row_statistics(const RowSource& source);

/// How to find principal components. All agree up to rounding, `randomised` to a few 10⁻⁴ of the
/// variance left.
enum class PcaMethod {
  covariance,  ///< eigenvectors of the numbers × numbers matrix; one pass
  gram,        ///< of the rows × rows matrix; holds all rows
  randomised,  ///< subspace iteration; a pass an iteration, holds some vectors more than wanted
};
constexpr auto names(PcaMethod) {
  return std::to_array<Name<PcaMethod>>({{PcaMethod::covariance, "covariance"},
                                         {PcaMethod::gram, "gram"},
                                         {PcaMethod::randomised, "randomised"}});
}

/// What finding components may take: a quarter of the free memory, and at most 1 GiB.
std::int64_t pca_bytes();
/// How many pixels' rows come together: about 100 MB in colour. The same whatever memory is free,
/// as sums depend on it in their last digits.
inline constexpr std::int64_t kPcaPixels = 1'000'000;

/// An exact method if its matrix is small, else `randomised`. nullopt where there are not that many
/// components or the method would take more than `most_bytes`; why_no_pca() has the reason.
std::optional<PcaMethod> choose_pca_method(std::int64_t rows, std::int64_t numbers,
                                           std::int64_t components, std::int64_t most_bytes);
std::string why_no_pca(std::int64_t rows, std::int64_t numbers, std::int64_t components,
                       std::int64_t most_bytes);

/// Principal components: the linear code of that many numbers with the smallest squared error on
/// the rows it was fitted to.
struct Pca {
  torch::Tensor mean;        ///< (numbers)
  torch::Tensor components;  ///< (numbers, k), orthonormal columns, largest variance first

  /// Each row's nearest point in the span of the components: (n, numbers) → the same.
  torch::Tensor project(const torch::Tensor& rows) const;
};

/// Fits `components` of them, or as many as the rows have. `statistics` are row_statistics().
/// Deterministic.
Pca fit_pca(const RowSource& source, const RowStatistics& statistics, std::int64_t components,
            PcaMethod method);

}  // namespace convae
