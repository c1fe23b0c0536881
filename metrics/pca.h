#pragma once

#include "convae/core/names.h"

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace convae {

/// Rows of numbers, too many to be held at once: images, read over and over.
struct RowSource {
  std::int64_t count = 0;    ///< rows; fewer may come, where images turn out unusable
  std::int64_t numbers = 0;  ///< a row
  /// Calls `take` with one (n, numbers) float tensor on the CPU after the other, the same every
  /// time.
  std::function<void(const std::function<void(const torch::Tensor&)>& take)> for_each_block;
};

/// (N, C, H, W) images → (N, H·W·C) rows, without a copy where they are channels-last; and back.
torch::Tensor rows_of_images(const torch::Tensor& images);
torch::Tensor images_of_rows(const torch::Tensor& rows, const torch::Tensor& like);

/// What one pass over the rows tells.
struct RowStatistics {
  std::int64_t count = 0;
  torch::Tensor mean;   ///< (numbers) float
  double variance = 0;  ///< mean over the rows of the squared distance from the mean
};
RowStatistics row_statistics(const RowSource& source);

/// How principal components are found. All give the same but for rounding, `randomised` to a few
/// 10⁻⁴ of the variance left.
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

/// The method for that many: an exact one where its matrix is small. nullopt where `components` are
/// more than rows can have or a row has numbers, or where they would take more than
/// kMaxPcaBytes; why_no_pca() has the reason.
std::optional<PcaMethod> choose_pca_method(std::int64_t rows, std::int64_t numbers,
                                           std::int64_t components);
std::string why_no_pca(std::int64_t rows, std::int64_t numbers, std::int64_t components);
inline constexpr std::int64_t kMaxPcaBytes = std::int64_t{1} << 30;

/// Principal components: of all linear codes of that many numbers the one that leaves the smallest
/// squared error on the rows it was fitted to.
struct Pca {
  torch::Tensor mean;        ///< (numbers)
  torch::Tensor components;  ///< (numbers, k), orthonormal columns, largest variance first

  /// Each row's nearest point among those that the components reach: (n, numbers) → the same.
  torch::Tensor project(const torch::Tensor& rows) const;
};

/// Fits `components` of them, or as many as the rows have. `statistics` are row_statistics().
/// Deterministic.
Pca fit_pca(const RowSource& source, const RowStatistics& statistics, std::int64_t components,
            PcaMethod method);

}  // namespace convae
